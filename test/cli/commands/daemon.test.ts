import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startPurser } from '../../../src/testing/index.ts'
import { apiSecret, type CliDaemon, startCliDaemon } from '../daemon.ts'
import { runCli } from '../run-cli.ts'

describe('purser status, health, backup, rpc', { timeout: 30_000 }, () => {
  let cli: CliDaemon
  let directory: string
  beforeAll(async () => {
    cli = await startCliDaemon()
    directory = mkdtempSync(join(tmpdir(), 'purser-cli-'))
  })
  afterAll(async () => {
    await cli.purser.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  test('status and health', async () => {
    expect((await cli.run(['status'])).stdout).toMatch(/^version +\d/m)
    expect(await cli.json(['health'])).toMatchObject({ status: 'ok' })
    expect((await cli.run(['health'])).stdout).toMatch(/^status +ok$/m)
  })

  test('the global options go before and after the command', async () => {
    for (const args of [
      ['--json', '--socket', cli.purser.socketPath, 'health'],
      ['health', '--socket', cli.purser.socketPath, '--json', '--timeout', '5s'],
    ])
      expect(JSON.parse((await runCli(args)).stdout)).toMatchObject({ status: 'ok' })
  })

  test('backup takes a relative path from here', async () => {
    const path = join(directory, 'copy.db')
    const backup = await cli.json(['backup', relative(process.cwd(), path)])
    expect(backup).toMatchObject({ path, bytes: statSync(path).size })
    const again = await cli.run(['backup', path])
    expect(again.code).toBe(1)
    expect(again.stderr).toContain('resource: path')
  })

  test('rpc: params as argument, from stdin, none; secrets from stdin alone', async () => {
    expect(await cli.json(['rpc', 'system.ping'])).toMatchObject({ pong: true })
    expect(await cli.json(['rpc', 'users.put', '{"userId":"raw","tier":"pro"}'])).toMatchObject({
      tier: 'pro',
    })
    const store = JSON.stringify({ userId: 'raw', apiKey: 'k', apiSecret })
    expect(await cli.json(['rpc', 'credentials.store', '-'], { input: store })).toMatchObject({
      credentialId: 1,
    })
    const refused = await cli.run(['rpc', 'credentials.store', store])
    expect(refused.code).toBe(64)
    expect(refused.stderr).toContain('purser: apiSecret: a secret is never taken from the command line')
    expect(refused.stderr).not.toContain(apiSecret)
  })

  test.each([
    [['rpc', 'no.such'], 64],
    [['rpc', 'system.ping', '{'], 64],
    [['rpc', 'system.ping', '[]'], 64],
    [['rpc', 'bad method'], 64],
    [['rpc', 'users.get', '{"userId":"nobody"}'], 2],
    [['rpc', 'users.get', '{"userId":"nobody","x":1}'], 64],
  ])('%j is exit %i', async (args, code) => {
    expect(await cli.run(args)).toMatchObject({ code, stdout: '' })
  })

  test('a wrong token is forbidden, exit 77, and is not shown', async () => {
    const token = `prs_${'A'.repeat(43)}`
    const path = join(directory, 'token')
    writeFileSync(path, `${token}\n`)
    const result = await cli.run(['health', '--token-file', path])
    expect(result.code).toBe(77)
    expect(result.stderr).not.toContain(token)
  })

  test('no daemon is exit 69', async () => {
    const result = await runCli(['health', '--socket', join(directory, 'none.sock')])
    expect(result).toMatchObject({ code: 69, stdout: '' })
    expect(result.stderr).toMatch(/^purser: no socket at .*\nhint: /)
  })
})

describe('purser init', { timeout: 30_000 }, () => {
  test('makes what the daemon starts on', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'purser-init-'))
    try {
      const dataDir = join(directory, 'data')
      const made = await runCli(['init', '--data-dir', dataDir])
      expect(made.code).toBe(0)
      expect(made.stdout).toContain(`purserd --data-dir ${dataDir}`)
      const key = readFileSync(join(dataDir, 'master.key'), 'utf8').trim()
      expect(made.stdout).not.toContain(key)
      await using purser = await startPurser({ fastKdf: true, dataDirectory: dataDir, masterKey: null })
      const status = (await purser.rpc('system.status')) as { masterKey?: { keyId?: string } }
      expect(made.stdout).toContain(`key id ${status.masterKey?.keyId}`)
      expect((await runCli(['init', '--data-dir', dataDir])).code).toBe(73)
      expect(readFileSync(join(dataDir, 'master.key'), 'utf8').trim()).toBe(key)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })

  test('goes where PURSER_DATA_DIR says', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'purser-init-'))
    try {
      const dataDir = join(directory, 'by-variable')
      const made = await runCli(['init', '--json'], { env: { PURSER_DATA_DIR: dataDir } })
      expect(JSON.parse(made.stdout)).toMatchObject({ dataDir, masterKeyFile: join(dataDir, 'master.key') })
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

describe('the command line itself', () => {
  test.each([
    [['--help'], 0, 'stdout', 'Exit codes:'],
    [['credentials', '--help'], 0, 'stdout', 'import'],
    [['--version'], 0, 'stdout', '.'],
    [[], 64, 'stderr', 'which command?'],
    [['credentials'], 64, 'stderr', 'which command?'],
    [['nonsense'], 64, 'stderr', "unknown command 'nonsense'"],
    [['credential'], 64, 'stderr', 'hint: Did you mean credentials?'],
    [['users', 'get'], 64, 'stderr', "missing required argument 'USER'"],
    [['credentials', 'show', 'x', '--user', 'a'], 64, 'stderr', 'CREDENTIAL takes a whole number'],
    [['credentials', 'list', '--status', 'odd'], 64, 'stderr', 'Allowed choices'],
    [['status', '--timeout', 'soon'], 64, 'stderr', '--timeout takes a time'],
  ] as const)('%j is exit %i', async (args, code, stream, text) => {
    const result = await runCli(args)
    expect(result.code).toBe(code)
    expect(result[stream]).toContain(text)
  })

  test('a secret as an argument is refused before anything else, and not repeated', async () => {
    const key = `0x${'ab'.repeat(32)}`
    for (const args of [
      ['credentials', 'add', '--user', 'a', '--private-key', key],
      ['credentials', 'add', '--user', 'a', `--private-key=${key}`],
      ['credentials', 'add', '--user', 'a', '--name', key],
    ]) {
      const result = await runCli(args)
      expect(result.code).toBe(64)
      expect(result.stderr).toContain('hint: arguments show in ps')
      expect(result.stderr).not.toContain(key)
    }
  })
})
