import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { noPty, type PtyStep, runOnPty } from './on-terminal.ts'

if (noPty !== null) console.warn(`questions on a terminal are not tested: ${noPty}`)

/** No daemon listens there, so that what was asked is followed by exit 69. */
const nowhere = join(tmpdir(), 'purser-no-such-dir', 'purser.sock')
const add = ['credentials', 'add', '--user', 'alice', '--socket', nowhere]

describe.skipIf(noPty !== null)('questions on a terminal', { timeout: 60_000 }, () => {
  test('secrets are not echoed, the API key is, and the terminal is restored', async () => {
    const result = await runOnPty(add, [
      ['API key:', 'key-visible\r'],
      ['API secret', 'hidden-secret\r'],
      ['passphrase', 'hidden-phrase\r'],
      ['Private key', 'hidden-private\r'],
    ])
    expect(result.output).toContain('key-visible')
    expect(result.output).not.toContain('hidden')
    expect(result.output).toContain(`no socket at ${nowhere}`)
    expect(result).toMatchObject({ code: 69, echo: true, canonical: true })
  })

  test('one paste answers all questions, and what is over does not reach the shell', async () => {
    const steps: PtyStep[] = [
      ['API key:', 'key-visible\nhidden-secret\nhidden-phrase\nhidden-private\nrm -rf hidden\n'],
    ]
    const result = await runOnPty(add, steps)
    expect(result.output).toContain('Private key')
    expect(result.output).not.toContain('hidden')
    expect(result).toMatchObject({ code: 69, echo: true, canonical: true })
  })

  test('a paste with CR LF line ends answers one question a line', async () => {
    const result = await runOnPty(add, [
      ['API key:', 'key-visible\r\nhidden-secret\r\nhidden-phrase\r\n\r\n'],
    ])
    expect(result).toMatchObject({ code: 69, echo: true, canonical: true })
  })

  test('Ctrl-C ends it with 130 and restores the terminal', async () => {
    const result = await runOnPty(add, [
      ['API key:', 'k\r'],
      ['API secret', 'hidden\x03'],
    ])
    expect(result.output).not.toContain('hidden')
    expect(result.output).toContain('purser: interrupted; nothing was done')
    expect(result).toMatchObject({ code: 130, echo: true, canonical: true })
  })

  test('SIGTERM at a question restores the terminal', async () => {
    const result = await runOnPty(add, [
      ['API key:', 'k\r'],
      ['API secret', { signal: 'SIGTERM' }],
    ])
    expect(result).toMatchObject({ signal: 'SIGTERM', echo: true, canonical: true })
  })

  test('after the questions Ctrl-C works as ever', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'purser-silent-'))
    const silent = createServer().listen(join(directory, 'silent.sock'))
    try {
      const result = await runOnPty(
        [
          'credentials',
          'add',
          '--user',
          'alice',
          '--api-key',
          'k',
          '--socket',
          join(directory, 'silent.sock'),
        ],
        [
          ['API secret', 's\r'],
          ['passphrase', '\r'],
          ['Private key', '\r'],
          ['\n', '\x03'],
        ],
      )
      expect(result).toMatchObject({ signal: 'SIGINT', echo: true, canonical: true })
    } finally {
      silent.close()
      rmSync(directory, { recursive: true, force: true })
    }
  })

  test('a secret that must be there is not skipped', async () => {
    const result = await runOnPty(add, [
      ['API key:', 'k\r'],
      ['API secret', '\r'],
    ])
    expect(result.output).toContain('purser: apiSecret is missing; nothing was done')
    expect(result).toMatchObject({ code: 65, echo: true, canonical: true })
  })

  test('get asks before it prints secrets, and takes silence for no', async () => {
    const get = ['credentials', 'get', '--user', 'alice', '--socket', nowhere]
    const no = await runOnPty(get, [['[y/N]', '\r']])
    expect(no.output).toContain('this prints secrets of alice to this terminal')
    expect(no.output).toContain('purser: not confirmed; nothing was done')
    expect(no).toMatchObject({ code: 130, echo: true, canonical: true })
    const yes = await runOnPty(get, [['[y/N]', 'y\r']])
    expect(yes).toMatchObject({ code: 69, echo: true, canonical: true })
  })

  test('--stdin is refused on a terminal, which would show what is typed', async () => {
    const result = await runOnPty([...add, '--stdin'], [])
    expect(result.output).toContain('purser: stdin is a terminal')
    expect(result.code).toBe(64)
  })

  test('colours show on a terminal, but not with NO_COLOR', async () => {
    const help = ['--help']
    expect((await runOnPty(help, [])).output).toContain('Usage: purser')
    expect((await runOnPty(help, [], { NO_COLOR: '1' })).output).not.toContain('\x1b[')
  })
})
