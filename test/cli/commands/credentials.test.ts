import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { updateParams } from '../../../src/cli/commands/credential-changes.ts'
import { address, apiSecret, type CliDaemon, privateKey, startCliDaemon } from '../daemon.ts'
import { noPty, runOnPty } from '../on-terminal.ts'

test('updateParams clears by none and refuses to change nothing', () => {
  expect(updateParams(7, { user: 'a', daily: 'none', expiresAt: 'none', clearName: true })).toEqual({
    userId: 'a',
    credentialId: 7,
    name: null,
    dailySpendLimitUsd: null,
    expiresAt: null,
  })
  expect(() => updateParams(7, { user: 'a' })).toThrow('nothing to change')
  expect(() => updateParams(7, { user: 'a', name: 'x', clearName: true })).toThrow('exclude each other')
})

describe('purser credentials', { timeout: 30_000 }, () => {
  let cli: CliDaemon
  beforeAll(async () => {
    cli = await startCliDaemon()
  })
  afterAll(() => cli.purser.stop())

  const add = (user: string, apiKey: string, ...more: string[]): Promise<Record<string, unknown>> =>
    cli.json(['credentials', 'add', '--user', user, '--stdin', ...more], {
      input: JSON.stringify({ apiKey, apiSecret }),
    })

  test('add from JSON on stdin, show, get', async () => {
    const input = JSON.stringify({ apiKey: 'k-1', apiSecret, passphrase: 'p-1', privateKey })
    const stored = await cli.json(
      ['credentials', 'add', '--user', 'alice', '--stdin', '--name', 'main', '--daily', '250'],
      { input },
    )
    expect(stored).toMatchObject({ address })
    const id = String(stored['credentialId'])
    const shown = await cli.run(['credentials', 'show', id, '--user', 'alice'])
    expect(shown.stdout).toMatch(/^name +main$/m)
    expect(shown.stdout).not.toContain(apiSecret)
    const got = await cli.json(['credentials', 'get', id, '--user', 'alice', '--yes'])
    expect(got).toMatchObject({ apiKey: 'k-1', apiSecret, passphrase: 'p-1', privateKey })
  })

  test('add from named variables and from lines', async () => {
    const env = { A: 'k-env', B: apiSecret }
    await cli.json(['credentials', 'add', '--user', 'env', '--api-key-env', 'A', '--api-secret-env', 'B'], {
      env,
    })
    expect(await cli.json(['credentials', 'get', '--user', 'env', '--yes'])).toMatchObject({
      apiKey: 'k-env',
      passphrase: null,
    })
    await cli.json(['credentials', 'add', '--user', 'lines', '--stdin', '--sign-only'], {
      input: `CLOB_API_KEY=k-lines\r\nCLOB_SECRET="${apiSecret}"\r\nPK=${'02'.repeat(32)}\r\n`,
    })
    expect(await cli.json(['credentials', 'get', '--user', 'lines', '--yes'])).toMatchObject({
      apiKey: 'k-lines',
      privateKey: null,
    })
  })

  test('get --field prints one value, and fails where there is none', async () => {
    await add('field', 'k-field')
    const one = await cli.run(['credentials', 'get', '--user', 'field', '--yes', '--field', 'apiSecret'])
    expect(one).toMatchObject({ code: 0, stdout: `${apiSecret}\n`, stderr: '' })
    const none = await cli.run(['credentials', 'get', '--user', 'field', '--yes', '--field', 'privateKey'])
    expect(none).toMatchObject({ code: 2, stdout: '' })
  })

  test('get without a terminal needs --yes, and retrieves nothing without', async () => {
    await add('asked', 'k-asked')
    const result = await cli.run(['credentials', 'get', '--user', 'asked'])
    expect(result).toMatchObject({ code: 64, stdout: '' })
    expect(result.stderr).toContain('hint: say so with --yes')
    const { entries } = await cli.purser.rpc('audit.query', { userId: 'asked', action: 'api_key_retrieved' })
    expect(entries).toEqual([])
  })

  test('update, rotate, replace, revoke', async () => {
    const id = String((await add('life', 'k-life'))['credentialId'])
    const user = ['--user', 'life']
    expect(
      await cli.json(['credentials', 'update', id, ...user, '--name', 'n', '--daily', '9']),
    ).toMatchObject({
      name: 'n',
      dailySpendLimitUsd: '9.00',
    })
    expect(
      await cli.json(['credentials', 'update', id, ...user, '--clear-name', '--daily', 'none']),
    ).toMatchObject({
      name: null,
      dailySpendLimitUsd: null,
    })
    expect(await cli.json(['credentials', 'rotate', ...user])).toEqual({ rotated: 1 })
    await cli.json(['credentials', 'replace', id, ...user, '--stdin'], {
      input: JSON.stringify({ apiKey: 'k-new', apiSecret, privateKey }),
    })
    expect(await cli.json(['credentials', 'get', ...user, '--yes'])).toMatchObject({
      apiKey: 'k-new',
      privateKey,
    })
    expect(await cli.json(['credentials', 'revoke', id, ...user, '--reason', 'leaked'])).toMatchObject({
      status: 'revoked',
      revokeReason: 'leaked',
    })
    const refused = await cli.run(['credentials', 'get', ...user, '--yes'])
    expect(refused).toMatchObject({ code: 1, stdout: '' })
    expect(refused.stderr).toMatch(/^purser: .*revoked/)
  })

  test('list filters, expiring looks ahead', async () => {
    await add('soon', 'k-soon', '--expires-in', '3')
    const expiring = await cli.json(['credentials', 'expiring', '--days', '7'])
    expect((expiring['credentials'] as { userId: string }[]).map((one) => one.userId)).toEqual(['soon'])
    const listed = await cli.json(['credentials', 'list', '--user', 'soon', '--status', 'active'])
    expect(listed['credentials']).toHaveLength(1)
    const none = await cli.run(['credentials', 'list', '--user', 'soon', '--status', 'revoked'])
    expect(none).toMatchObject({ code: 0, stdout: '', stderr: 'no credentials\n' })
  })

  test('the same API key twice is a conflict, exit 1', async () => {
    await add('twice', 'k-twice')
    const again = await cli.run(['credentials', 'add', '--user', 'twice', '--stdin'], {
      input: JSON.stringify({ apiKey: 'k-twice', apiSecret }),
    })
    expect(again.code).toBe(1)
    expect(again.stderr).toContain('resource: apiKey')
  })

  test('no secret in any error, whatever is wrong with it', async () => {
    const bad = `${apiSecret}!`
    const result = await cli.run(['credentials', 'add', '--user', 'bad', '--stdin', '--json'], {
      input: JSON.stringify({ apiKey: 'k', apiSecret: bad, privateKey: 'not-a-private-key' }),
    })
    expect(result.code).toBe(64)
    for (const secret of [bad, 'not-a-private-key']) expect(result.stderr).not.toContain(secret)
  })

  test('names that would draw on the terminal come out as text', async () => {
    await add('nasty', 'k-nasty', '--name', '\x1b[2J\u202eevil')
    const { stdout } = await cli.run(['credentials', 'list', '--user', 'nasty'])
    expect(stdout).toContain('\\x1b[2J\\u{202e}evil')
    const { stdout: json } = await cli.run(['credentials', 'list', '--user', 'nasty', '--json'])
    expect(json).toMatch(/^[\x20-\x7e]*\n$/)
    expect(JSON.parse(json).credentials[0].name).toBe('\x1b[2J\u202eevil')
  })

  describe.skipIf(noPty !== null)('on a terminal', () => {
    const onTerminal = (args: string[], env: Record<string, string> = {}) =>
      runOnPty(args, [], { PURSER_SOCKET: cli.purser.socketPath, ...env })

    test('what was typed is what is stored, corrections included', async () => {
      const result = await runOnPty(
        ['credentials', 'add', '--user', 'typed'],
        [
          ['API key:', 'k-typXX\x7f\x7fed\r'],
          ['API secret', `wrong\x15${apiSecret}\r`],
          ['passphrase', '\x1b[200~p-é東\x1b[201~x\x7f\r'],
          ['Private key', `${privateKey}\r`],
        ],
        { PURSER_SOCKET: cli.purser.socketPath },
      )
      expect(result).toMatchObject({ code: 0, echo: true, canonical: true })
      expect(result.output).not.toContain(apiSecret)
      expect(result.output).not.toContain(privateKey)
      expect(await cli.json(['credentials', 'get', '--user', 'typed', '--yes'])).toMatchObject({
        apiKey: 'k-typed',
        apiSecret,
        passphrase: 'p-é東',
        privateKey,
      })
    })

    test('tables are coloured, cut to the terminal, and plain with NO_COLOR', async () => {
      await add('wide', 'k-wide', '--name', 'n'.repeat(200))
      const list = ['credentials', 'list', '--user', 'wide']
      const coloured = await onTerminal(list)
      expect(coloured.output).toContain('\x1b[32mactive')
      const plain = await onTerminal(list, { NO_COLOR: '1', COLUMNS: '100' })
      expect(plain.output).not.toContain('\x1b')
      for (const line of plain.output.split('\r\n')) expect(line.length).toBeLessThanOrEqual(100)
      expect(plain.output).toContain('n…')
    })

    test('get prints after a yes', async () => {
      await add('sure', 'k-sure')
      const result = await runOnPty(
        ['credentials', 'get', '--user', 'sure', '--field', 'apiKey'],
        [['this prints apiKey of sure to this terminal', 'y\r']],
        { PURSER_SOCKET: cli.purser.socketPath },
      )
      expect(result.output).toContain('k-sure\r\n')
      expect(result.code).toBe(0)
    })
  })
})
