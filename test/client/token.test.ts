import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { connect, TokenError } from '../../src/client/index.ts'
import { tokenSource } from '../../src/client/token.ts'
import { startPurser } from '../../src/testing/index.ts'

const directory = mkdtempSync(join(tmpdir(), 'purser-token-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

function fileOf(name: string, content: string, mode = 0o600): string {
  const path = join(directory, name)
  writeFileSync(path, content)
  chmodSync(path, mode)
  return path
}

test('an option beats the variables, and PURSER_TOKEN a file', () => {
  const file = fileOf('order', ' prs_file\n')
  const env = { PURSER_TOKEN: 'prs_env', PURSER_TOKEN_FILE: fileOf('env-file', 'prs_env_file') }
  expect(tokenSource({}, {})()).toBeUndefined()
  expect(tokenSource({}, { PURSER_TOKEN: '', PURSER_TOKEN_FILE: '' })()).toBeUndefined()
  expect(tokenSource({ token: 'prs_option' }, env)()).toBe('prs_option')
  expect(tokenSource({ tokenFile: file }, env)()).toBe('prs_file')
  expect(tokenSource({}, env)()).toBe('prs_env')
  expect(tokenSource({}, { PURSER_TOKEN_FILE: file })()).toBe('prs_file')
  expect(() => tokenSource({ token: 'a', tokenFile: file }, {})).toThrow(TypeError)
})

test('a file is read each time', () => {
  const file = fileOf('rolled', 'prs_old')
  const source = tokenSource({ tokenFile: file }, {})
  expect(source()).toBe('prs_old')
  writeFileSync(file, 'prs_new\n')
  expect(source()).toBe('prs_new')
})

test('what is no token file is refused, with what to do', () => {
  const refused = (tokenFile: string, text: string, env = {}) =>
    expect(tokenSource({ tokenFile }, env)).toThrow(
      expect.objectContaining({
        name: 'TokenError',
        message: expect.stringContaining(text),
        hint: expect.any(String),
      }),
    )
  refused(join(directory, 'absent'), 'cannot be read (ENOENT)')
  refused(directory, 'is not a regular file')
  refused(fileOf('empty', ' \n'), 'holds no token')
  refused(fileOf('long', 'x'.repeat(2000)), 'holds no token')
  for (const mode of [0o640, 0o604, 0o660])
    refused(fileOf(`open-${mode}`, 'prs_x', mode), 'others may read the token file')
  // systemd guards its credentials by an ACL.
  const credential = fileOf('credential', 'prs_credential', 0o440)
  expect(tokenSource({ tokenFile: credential }, { CREDENTIALS_DIRECTORY: directory })()).toBe(
    'prs_credential',
  )
  refused(credential, 'others may read', { CREDENTIALS_DIRECTORY: '' })
})

test('it is presented at every connection, and a new one in the file counts from the next on', async () => {
  await using purser = await startPurser({ fastKdf: true })
  const add = (name: string) =>
    purser.rpc('clients.add', { name, token: true, users: '*', scopes: ['audit:read'] })
  const [first, second] = [await add('first'), await add('second')]
  const tokenFile = fileOf('live', first.token!)
  await using client = await connect({ socketPath: purser.socketPath, tokenFile })
  expect(client.hello!.identity).toMatchObject({ client: 'first', role: 'client' })
  await expect(client.users.list()).rejects.toMatchObject({ type: 'Forbidden' })
  writeFileSync(tokenFile, second.token!)
  await purser.kill('SIGTERM')
  await purser.restart()
  await client.audit.verify()
  expect(client.hello!.identity).toMatchObject({ client: 'second' })
  await expect(
    connect({ socketPath: purser.socketPath, tokenFile: join(directory, 'absent') }),
  ).rejects.toBeInstanceOf(TokenError)
})
