import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { progressText } from '../../../src/cli/commands/master-progress.ts'
import { keyIdOf } from '../../../src/vault/keyring.ts'
import { apiSecret, type CliDaemon, startCliDaemon } from '../daemon.ts'
import { noPty, runOnPty } from '../on-terminal.ts'

const keyOf = (byte: string) => byte.repeat(32)
const idOf = (byte: string) => keyIdOf(Buffer.from(keyOf(byte), 'hex'))

describe('purser master', { timeout: 60_000 }, () => {
  let cli: CliDaemon
  beforeAll(async () => {
    cli = await startCliDaemon()
    for (const apiKey of ['a', 'b', 'c'])
      await cli.purser.rpc('credentials.store', { userId: 'alice', apiKey, apiSecret })
  })
  afterAll(() => cli.purser.stop())

  test('status before anything', async () => {
    expect(await cli.json(['master', 'status'])).toMatchObject({ epoch: 1, oldKeyRetired: true, job: null })
    expect((await cli.run(['master', 'status'])).stdout).toMatch(/^old key retired +yes\njob +-$/m)
  })

  test('rotate without a key replaces the key file and waits for the end', async () => {
    const result = await cli.run(['master', 'rotate'])
    expect(result).toMatchObject({ code: 0 })
    expect(result.stdout).toMatch(/^epoch +2$/m)
    expect(result.stdout).toMatch(/^old key retired +yes$/m)
    expect(result.stdout).toMatch(/^sealed anew +3 of 3$/m)
    expect(result.stderr).toBe('')
  })

  test('the present key is refused', async () => {
    const file = cli.purser.masterKeyFile!
    const result = await cli.run(['master', 'rotate', '--new-key-file', file])
    expect(result).toMatchObject({ code: 64, stdout: '' })
    expect(result.stderr).toContain('newMasterKey: is the present key')
  })

  test('rotate to a key from stdin, and what is then to be done', async () => {
    const result = await cli.run(['master', 'rotate', '--ask'], { input: `${keyOf('21')}\n` })
    expect(result).toMatchObject({ code: 0 })
    expect(result.stdout).toMatch(new RegExp(`^key id +${idOf('21')}$`, 'm'))
    expect(result.stderr).toContain(`the new key has key id ${idOf('21')}`)
    expect(result.stderr).toContain('let the key source hand out the new one, then `purser unseal`')
    const again = await cli.run(['master', 'rotate', '--ask'], { input: keyOf('22') })
    expect(again).toMatchObject({ code: 1, stdout: '' })
    expect(again.stderr).toContain('resource: rotation')
  })

  test('reseal, with and without waiting', async () => {
    const begun = await cli.json(['master', 'reseal', '--no-wait'])
    expect(begun).toEqual({ jobId: expect.any(String) })
    await expect.poll(() => cli.json(['master', 'status'])).toMatchObject({ job: { state: 'done' } })
    expect((await cli.run(['master', 'reseal'])).stdout).toMatch(/^job +reseal, done$/m)
  })

  test('a key file that is none, one that is not there, a key as an argument', async () => {
    const file = join(cli.purser.directory, 'no-key')
    writeFileSync(file, 'hush-hush', { mode: 0o600 })
    expect(await cli.run(['master', 'rotate', '--new-key-file', file])).toMatchObject({ code: 65 })
    expect(await cli.run(['master', 'rotate', '--new-key-file', `${file}x`])).toMatchObject({ code: 66 })
    expect(await cli.run(['master', 'rotate', '--ask'], { input: 'hush' })).toMatchObject({ code: 65 })
    for (const args of [[keyOf('23')], ['--new-key-file', keyOf('23')]]) {
      const refused = await cli.run(['master', 'rotate', ...args])
      expect(refused).toMatchObject({ code: 64, stdout: '' })
      expect(refused.stderr).not.toContain(keyOf('23'))
    }
  })

  test.skipIf(noPty !== null)('on a terminal the key is asked for and not shown', async () => {
    const steps = [['New master key (not shown):', `${keyOf('24')}\r`]] as const
    const args = ['master', 'rotate', '--ask', '--socket', cli.purser.socketPath]
    const result = await runOnPty(args, steps)
    expect(result.output).not.toContain(keyOf('24'))
    expect(result.output).toContain(idOf('24'))
    // The old key of the last rotation is still there.
    expect(result).toMatchObject({ code: 1, echo: true })
  })
})

describe('progressText', () => {
  const job = { kind: 'rotate', state: 'running', done: 500, total: 2000 } as const
  test.each([
    ['the first', [{ atMs: 0, done: 500 }], '500 of 2000, 25 %'],
    [
      'nothing moved',
      [
        { atMs: 0, done: 500 },
        { atMs: 1000, done: 500 },
      ],
      '500 of 2000, 25 %',
    ],
    [
      'fast',
      [
        { atMs: 0, done: 200 },
        { atMs: 2000, done: 500 },
      ],
      '500 of 2000, 25 %, 150/s, 10 s left',
    ],
    [
      'slow',
      [
        { atMs: 0, done: 490 },
        { atMs: 10_000, done: 500 },
      ],
      '500 of 2000, 25 %, 1.0/s, 25 min left',
    ],
    [
      'very slow',
      [
        { atMs: 0, done: 499 },
        { atMs: 10_000, done: 500 },
      ],
      '500 of 2000, 25 %, 0.1/s, 4 h 10 min left',
    ],
  ])('%s', (_name, samples, text) => {
    expect(progressText(job, samples)).toBe(text)
  })

  test('while sealed', () => {
    expect(progressText({ ...job, state: 'paused' }, [])).toBe(
      '500 of 2000, 25 %, paused: the daemon is sealed',
    )
  })
})
