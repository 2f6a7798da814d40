import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addParams, updateParams } from '../../../src/cli/commands/clients.ts'
import { parseKernelId } from '../../../src/cli/input/kernel-ids.ts'
import { type CliDaemon, startCliDaemon } from '../daemon.ts'

const directory = mkdtempSync(join(tmpdir(), 'purser-clients-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test('the params of add and update', () => {
  const options = { uid: '1001', withToken: true, users: 'alice, bob,', scopes: 'spend,sign' }
  expect(addParams('bot', { ...options, credentials: '1,2', expiresAt: '2030-01-01T00:00:00Z' })).toEqual({
    name: 'bot',
    uid: 1001,
    token: true,
    users: ['alice', 'bob'],
    credentials: [1, 2],
    scopes: ['spend', 'sign'],
    expiresAt: '2030-01-01T00:00:00Z',
  })
  expect(addParams('bot', { gid: 'root', allUsers: true, scopes: 'admin' })).toEqual({
    name: 'bot',
    gid: 0,
    users: '*',
    scopes: ['admin'],
  })
  expect(() => addParams('bot', { users: 'alice', scopes: 'spend' })).toThrow('by what is it told')
  expect(() => addParams('bot', { uid: '1', scopes: 'spend' })).toThrow('for which users')
  expect(() => addParams('bot', { uid: '1', users: 'alice' })).toThrow('to do what')
  expect(() => addParams('bot', { ...options, allUsers: true })).toThrow('exclude each other')
  expect(updateParams(3, { credentials: 'none', expiresAt: 'none' })).toEqual({
    clientId: 3,
    credentials: null,
    expiresAt: null,
  })
  expect(() => updateParams(3, {})).toThrow('nothing to change')
  expect(() => updateParams(3, { credentials: 'x' })).toThrow('--credentials')
})

test('uids and gids by number and by name', () => {
  writeFileSync(
    join(directory, 'passwd'),
    'root:x:0:0::/root:/bin/sh\nbot:x:1234:99::/:/bin/false\nbad:x:y:0\n',
  )
  writeFileSync(join(directory, 'group'), 'bots:x:77:bot\n')
  expect(parseKernelId('uid', '4294967294')).toBe(4_294_967_294)
  expect(parseKernelId('uid', 'bot', directory)).toBe(1234)
  expect(parseKernelId('gid', 'bots', directory)).toBe(77)
  for (const argument of ['4294967295', '-1', 'nobody-there', '', 'bad', '1.5'])
    expect(() => parseKernelId('uid', argument, directory), argument).toThrow('--uid')
  expect(() => parseKernelId('gid', 'bots', join(directory, 'absent'))).toThrow('has no bots')
})

describe('purser clients', () => {
  let cli: CliDaemon
  beforeAll(async () => {
    cli = await startCliDaemon()
  })
  afterAll(() => cli.purser.stop())

  test('add prints the token once, alone on stdout, and says how to keep it', async () => {
    const added = await cli.run([
      'clients',
      'add',
      'bot',
      '--with-token',
      '--users',
      'alice',
      '--scopes',
      'spend',
    ])
    expect(added.code).toBe(0)
    expect(added.stdout).toMatch(/^prs_[\w-]{43}\n$/)
    expect(added.stderr).toMatch(
      /^purser: client 1; its token is told this once.*\nhint: .*0600.*PURSER_TOKEN_FILE\n$/,
    )
    const list = await cli.run(['clients', 'list'])
    expect(list.stdout).not.toContain(added.stdout.trim())
    expect(list.stdout).toMatch(/^ *1 +bot +token +alice +all +spend /m)
    // And with it one is that client: by a file, and by the variables.
    const file = join(directory, 'token')
    writeFileSync(file, added.stdout, { mode: 0o600 })
    for (const env of [{ PURSER_TOKEN_FILE: file }, { PURSER_TOKEN: added.stdout.trim() }]) {
      const hello = await cli.json(['rpc', 'session.hello'], { env })
      expect(hello['identity']).toMatchObject({ client: 'bot', role: 'client' })
    }
    expect((await cli.run(['users', 'list', '--token-file', file])).code).toBe(77)
    expect((await cli.run(['health'], { env: { PURSER_TOKEN_FILE: '/nonexistent' } })).code).toBe(66)
  })

  test('add without one, update, remove', async () => {
    const added = await cli.run([
      'clients',
      'add',
      'by uid',
      '--uid',
      '4001',
      '--all-users',
      '--scopes',
      'spend',
    ])
    expect(added).toMatchObject({ code: 0, stdout: 'added client 2\n', stderr: '' })
    const taken = await cli.run([
      'clients',
      'add',
      'other',
      '--uid',
      '4001',
      '--all-users',
      '--scopes',
      'spend',
    ])
    expect(taken).toMatchObject({ code: 1, stdout: '' })
    expect(
      await cli.json(['clients', 'update', '2', '--users', 'alice', '--scopes', 'spend,settle']),
    ).toMatchObject({
      clientId: 2,
      users: ['alice'],
      scopes: ['spend', 'settle'],
      uid: 4001,
    })
    expect(await cli.run(['clients', 'remove', '2'])).toMatchObject({ code: 0, stdout: 'removed client 2\n' })
    expect((await cli.run(['clients', 'remove', '2'])).code).toBe(2)
    expect((await cli.run(['clients', 'remove', 'bot'])).code).toBe(64)
    expect((await cli.run(['clients', 'update', '1'])).code).toBe(64)
  })

  test('a token is never taken from the command line', async () => {
    const refused = await cli.run(['clients', 'add', 'x', '--token', `prs_${'A'.repeat(43)}`])
    expect(refused.code).toBe(64)
    expect(refused.stderr).not.toContain('AAAA')
  })
})

test('what the README says one can paste can be pasted', () => {
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8')
  const commands = [...readme.matchAll(/purser clients add (.*)/g)].map(([, rest]) => rest!)
  expect(commands.length).toBeGreaterThan(0)
  for (const command of commands) {
    const words = command.replace(/ *[>#|].*$/, '').split(/ +/)
    const flags = words.filter((word) => word.startsWith('--'))
    for (const flag of flags)
      expect([
        '--uid',
        '--gid',
        '--with-token',
        '--users',
        '--all-users',
        '--credentials',
        '--scopes',
      ]).toContain(flag)
  }
})
