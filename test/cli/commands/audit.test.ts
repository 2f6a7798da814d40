import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { createInterface } from 'node:readline'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CliDaemon, startCliDaemon } from '../daemon.ts'
import { cliEntry, finish, startCli } from '../run-cli.ts'

describe('purser audit', { timeout: 30_000 }, () => {
  let cli: CliDaemon
  beforeAll(async () => {
    cli = await startCliDaemon()
    for (let index = 0; index < 30; index++)
      await cli.purser.rpc('users.put', { userId: `u${index}`, tier: 'basic' })
  })
  afterAll(() => cli.purser.stop())

  const tail = (...args: string[]) =>
    startCli(['audit', 'tail', '--interval', '200ms', ...args], {
      env: { PURSER_SOCKET: cli.purser.socketPath },
    })

  test('query: newest first, filtered, limited, as table and as JSON', async () => {
    const { stdout } = await cli.run(['audit', 'query', '--limit', '3'])
    const lines = stdout.trimEnd().split('\n')
    expect(lines).toHaveLength(4)
    expect(lines[0]).toMatch(/^ *SEQ +AT +OUTCOME +ACTION/)
    const answer = await cli.json(['audit', 'query', '--user', 'u3', '--action', 'limits_*'])
    expect(answer).toMatchObject({ entries: [{ userId: 'u3', action: 'limits_updated' }], nextCursor: null })
    const limited = await cli.json(['audit', 'query', '--limit', '2'])
    expect(limited['entries']).toHaveLength(2)
    expect(limited['nextCursor']).not.toBeNull()
    const all = await cli.json(['audit', 'query', '--all', '--since', '1h'])
    expect((all['entries'] as unknown[]).length).toBeGreaterThan(30)
    expect((await cli.json(['audit', 'query', '--until', '1h']))['entries']).toEqual([])
  })

  test('failures', async () => {
    expect(await cli.run(['audit', 'failures'])).toMatchObject({
      code: 0,
      stdout: 'no user has that many failures\n',
    })
  })

  test('tail follows, in order and without repeating, until Ctrl-C', async () => {
    const child = tail('--json', '-n', '2')
    const seqs: number[] = []
    const lines = createInterface({ input: child.stdout! })
    lines.on('line', (line) => seqs.push((JSON.parse(line) as { seq: number }).seq))
    const ended = once(child, 'close')
    await once(lines, 'line')
    for (let index = 0; index < 20; index++) {
      await cli.purser.rpc('users.put', { userId: 'tailed', maxSignaturesPerMinute: index + 1 })
      if (index % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 250))
    }
    while (seqs.length < 22) await new Promise((resolve) => setTimeout(resolve, 50))
    child.kill('SIGINT')
    expect(await ended).toEqual([0, null])
    expect(seqs).toEqual(seqs.map((_seq, index) => (seqs[0] ?? 0) + index))
  })

  test('tail goes on over a restart of the daemon', async () => {
    const child = tail('--json', '-n', '0')
    const ended = finish(child)
    await new Promise((resolve) => setTimeout(resolve, 1000))
    await cli.purser.restart()
    await cli.purser.rpc('users.put', { userId: 'after', tier: 'pro' })
    await new Promise((resolve) => setTimeout(resolve, 1500))
    child.kill('SIGINT')
    const { code, stdout, stderr } = await ended
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain('"daemon_started"')
    expect(stdout).toContain('"after"')
  })

  test('tail ends without a word when its reader goes away, though nothing comes that it could write', async () => {
    const child = startCli(['audit', 'tail', '--interval', '1h'], {
      env: { PURSER_SOCKET: cli.purser.socketPath },
    })
    const ended = once(child, 'close')
    let stderr = ''
    child.stderr?.on('data', (text) => {
      stderr += String(text)
    })
    await once(child.stdout!, 'data')
    child.stdout?.destroy()
    expect(await ended).toEqual([0, null])
    expect(stderr).toBe('')
  })

  test('tail in a pipe of a shell ends with its reader', async () => {
    const script = '"$@" | head -1; echo "$PIPESTATUS"'
    const { code, stdout, stderr } = await finish(
      spawn('bash', ['-c', script, 'bash', process.execPath, cliEntry, 'audit', 'tail', '--interval', '1h'], {
        env: { PATH: process.env['PATH'] ?? '', HOME: tmpdir(), PURSER_SOCKET: cli.purser.socketPath },
      }),
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^ *SEQ .*\n0\n$/)
  })

  test('--no-follow stops', async () => {
    const result = await cli.run(['audit', 'tail', '-n', '2', '--no-follow'])
    expect(result.code).toBe(0)
    expect(result.stdout.trimEnd().split('\n')).toHaveLength(3)
  })

  test('verify is 0 while the chain holds, and 3 with the first bad seq when it does not', async () => {
    const good = await cli.run(['audit', 'verify'])
    expect(good.code).toBe(0)
    expect(good.stdout).toMatch(/^chain +ok$/m)

    await cli.purser.kill('SIGTERM')
    const table = new Database(`${cli.purser.dataDirectory}/purser.db`)
    const name = table
      .prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'audit%' ORDER BY length(name)",
      )
      .pluck()
      .get() as string
    for (const trigger of table
      .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
      .pluck()
      .all() as string[])
      table.exec(`DROP TRIGGER ${trigger}`)
    table.exec(`UPDATE ${name} SET action = 'user_put' WHERE seq = 5`)
    table.close()
    await cli.purser.restart()

    const bad = await cli.run(['audit', 'verify'])
    expect(bad.code).toBe(3)
    expect(bad.stdout).toMatch(/^chain +BROKEN$/m)
    expect(bad.stdout).toMatch(/^first bad seq +5$/m)
    expect(bad.stderr).toContain('purser: the audit chain is broken at seq 5')
    const json = await cli.run(['audit', 'verify', '--json'])
    expect(json.code).toBe(3)
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, firstBadSeq: 5 })
  })
})
