import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { vaultAccess } from '../../../src/keysource/remote/vault-access.ts'

let directory: string
let file: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-access-'))
  file = join(directory, 'token')
  writeFileSync(file, 'hvs.hush\n')
  mkdirSync(join(directory, 'directory'))
  writeFileSync(join(directory, 'empty'), '\n')
  writeFileSync(join(directory, 'two-lines'), 'hush\nx-other: y')
  writeFileSync(join(directory, 'large'), 'h'.repeat(20_000))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const address = 'https://vault.example:8200'

test('an empty variable counts as not set', async () => {
  expect(
    await vaultAccess({
      VAULT_ADDR: address,
      VAULT_NAMESPACE: '',
      VAULT_CACERT: '',
      VAULT_TOKEN: '',
      VAULT_TOKEN_FILE: file,
      VAULT_ROLE_ID: '',
      VAULT_SECRET_ID: '',
    }),
  ).toEqual({ address, namespace: null, ca: null, login: { kind: 'token', token: 'hvs.hush' } })
})

test.each([
  ['no address', { VAULT_TOKEN: 't' }, 'VAULT_ADDR is no URL'],
  ['http to another host', { VAULT_ADDR: 'http://vault.example' }, 'VAULT_ADDR is http to another host'],
  ['a password in it', { VAULT_ADDR: 'https://a:hush@v' }, 'VAULT_ADDR holds a user name or password'],
  ['no way in', { VAULT_ADDR: address }, 'VAULT_ADDR is set, but no way to log in'],
  ['two ways', { VAULT_ADDR: address, VAULT_TOKEN: 't', VAULT_TOKEN_FILE: 'f' }, 'are both set'],
  ['two others', { VAULT_ADDR: address, VAULT_TOKEN: 't', VAULT_ROLE_ID: 'r' }, 'are both set'],
  ['half an AppRole', { VAULT_ADDR: address, VAULT_ROLE_ID: 'r' }, 'without its secret id'],
  ['the other half', { VAULT_ADDR: address, VAULT_SECRET_ID: 's' }, 'no way to log in'],
  [
    'two secret ids',
    { VAULT_ADDR: address, VAULT_ROLE_ID: 'r', VAULT_SECRET_ID: 's', VAULT_SECRET_ID_FILE: 'f' },
    'are both set',
  ],
  ['a header in the namespace', { VAULT_ADDR: address, VAULT_NAMESPACE: 'a\r\nb: c' }, 'is no namespace'],
  [
    'a header in the token',
    { VAULT_ADDR: address, VAULT_TOKEN: 'hush\r\nb: c' },
    'VAULT_TOKEN holds no token',
  ],
])('%s: what is configured is wrong', async (_, env, message) => {
  const error = await vaultAccess(env).catch((reason: unknown) => reason)
  expect(error).toMatchObject({ name: 'SourceError', exit: 'config', retry: false })
  expect(String(error)).toContain(message)
  expect(String(error)).not.toContain('hush')
})

test.each([
  ['none', 'cannot be read (ENOENT)'],
  ['directory', 'is not a regular file'],
  ['large', 'is too large'],
  ['empty', 'holds no token'],
  ['two-lines', 'holds no token'],
])('a token file that is %s: the source fails', async (name, message) => {
  const env = { VAULT_ADDR: address, VAULT_TOKEN_FILE: join(directory, name) }
  const error = await vaultAccess(env).catch((reason: unknown) => reason)
  expect(error).toMatchObject({ name: 'SourceError', exit: 'masterKey' })
  expect(String(error)).toContain(message)
  expect(String(error)).not.toContain('hush')
})

test('a CA file that is missing: the source fails', async () => {
  const env = { VAULT_ADDR: address, VAULT_TOKEN: 't', VAULT_CACERT: join(directory, 'no-ca') }
  const error = await vaultAccess(env).catch((reason: unknown) => reason)
  expect(error).toMatchObject({ exit: 'masterKey' })
  expect(String(error)).toContain('the file of VAULT_CACERT')
})
