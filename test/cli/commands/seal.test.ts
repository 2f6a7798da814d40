import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startPurser } from '../../../src/testing/index.ts'
import { apiSecret, type CliDaemon, startCliDaemon } from '../daemon.ts'
import { noPty, runOnPty } from '../on-terminal.ts'
import { runCli } from '../run-cli.ts'

describe('purser seal and unseal', { timeout: 60_000 }, () => {
  let cli: CliDaemon
  let directory: string
  let masterKey: string
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'purser-cli-seal-'))
    cli = await startCliDaemon()
    masterKey = cli.purser.masterKey!
    await cli.purser.rpc('credentials.store', { userId: 'bot', apiKey: 'k', apiSecret })
  })
  afterAll(async () => {
    await cli.purser.stop()
    rmSync(directory, { recursive: true, force: true })
  })

  const sealed = async () => (await cli.json(['status']))['sealed']

  test('seal says since when, again too, and status, health, exec and spend say what is the matter', async () => {
    const first = await cli.run(['seal'])
    expect(first).toMatchObject({ code: 0, stderr: '' })
    expect(first.stdout).toMatch(/^sealed since \d{4}-\d\d-\d\d/)
    expect((await cli.run(['seal'])).stdout).toBe(first.stdout)
    expect((await cli.run(['status'])).stdout).toMatch(/^sealed +(yes|true)$/m)
    expect(await cli.run(['health'])).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('the daemon is sealed'),
    })
    for (const args of [
      ['exec', '--user', 'bot', '--', 'true'],
      ['spend', 'reserve', '5', '--user', 'bot'],
      ['credentials', 'rotate', '--user', 'bot'],
    ]) {
      const { code, stdout, stderr } = await cli.run(args)
      expect({ code, stdout }).toEqual({ code: 75, stdout: '' })
      expect(stderr).toBe('purser: the daemon is sealed\nhint: an operator unseals it with `purser unseal`\n')
    }
  })

  test('unseal takes the key from a pipe or a file, and from nothing the configured source', async () => {
    const file = join(directory, 'key')
    writeFileSync(file, masterKey, { mode: 0o600 })
    for (const [args, input] of [
      [[], masterKey],
      [[], `  ${Buffer.from(masterKey, 'base64').toString('hex')}\n`],
      [['--key-file', file], ''],
      [['--from-source'], ''],
      [[], ''],
    ] as [string[], string][]) {
      await cli.json(['seal'])
      const { code, stdout, stderr } = await cli.run(['unseal', ...args], { input })
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toMatch(/^unsealed with key [0-9a-f]{16}, epoch 1\n$/)
      expect(await sealed()).toBe(false)
    }
    await cli.json(['seal'])
    expect(await cli.json(['unseal'])).toEqual({
      sealed: false,
      keyId: expect.any(String),
      epoch: 1,
      storeCreated: false,
    })
  })

  test('what is no key, or another one, leaves it sealed and is not shown', async () => {
    await cli.json(['seal'])
    const other = Buffer.alloc(32, 9).toString('hex')
    const wrong = await cli.run(['unseal'], { input: other })
    expect(wrong.code).toBe(75)
    expect(wrong.stderr).toContain('purser: this key does not open the store')
    const none = await cli.run(['unseal'], { input: 'no-key-at-all' })
    expect(none.code).toBe(65)
    expect(none.stderr).toContain('purser: stdin holds no master key')
    const open = join(directory, 'open')
    writeFileSync(open, other, { mode: 0o644 })
    expect((await cli.run(['unseal', '--key-file', open])).code).toBe(66)
    expect((await cli.run(['unseal', '--key-file', open, '--from-source'])).code).toBe(64)
    const argument = await cli.run(['unseal', other])
    expect(argument.code).toBe(64)
    for (const { stderr } of [wrong, none, argument]) expect(stderr).not.toMatch(/0909|no-key-at-all/)
    expect(await sealed()).toBe(true)
  })

  test.skipIf(noPty !== null)('on a terminal it is asked for and not shown', async () => {
    const result = await runOnPty(
      ['unseal', '--socket', cli.purser.socketPath],
      [['Master key (not shown;', `${masterKey}\r`]],
    )
    expect(result.output).toContain('unsealed with key')
    expect(result.output).not.toContain(masterKey.slice(0, 10))
    expect(result).toMatchObject({ code: 0, echo: true, canonical: true })
    await cli.json(['seal'])
    const empty = await runOnPty(['unseal', '--socket', cli.purser.socketPath], [['Master key', '\r']])
    expect(empty.output).toContain('unsealed with key')
    await cli.json(['seal'])
    const stopped = await runOnPty(['unseal', '--socket', cli.purser.socketPath], [['Master key', '\x03']])
    expect(stopped).toMatchObject({ code: 130, echo: true, canonical: true })
    expect(await sealed()).toBe(true)
  })

  test('--create makes the store of a daemon without one', async () => {
    await using purser = await startPurser({ fastKdf: true, masterKey: null, args: ['--sealed'] })
    const run = (...args: string[]) =>
      runCli(args, { input: masterKey, env: { PURSER_SOCKET: purser.socketPath } })
    const missing = await run('unseal')
    expect(missing.code).toBe(2)
    expect(missing.stderr).toContain('purser: there is no store (resource: store)')
    expect((await run('status')).stdout).toMatch(/^sealed +(yes|true)$/m)
    expect((await run('top', '--once')).stdout).toContain('the daemon is sealed')
    expect((await run('unseal', '--create')).stdout).toMatch(/, for a new store\n$/)
    expect((await run('unseal', '--create')).code).toBe(1)
    expect((await run('health')).code).toBe(0)
  })
})
