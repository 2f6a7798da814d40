import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { exitCodes } from '../../src/errors.ts'
import { vaultSource } from '../../src/keysource/vault.ts'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { answering } from './support/serve.ts'
import { VaultServer } from './support/vault-server.ts'

const key = Buffer.from(Array.from({ length: 32 }, (_, i) => i))
const address = 'https://vault.example:8200/behind'

let directory: string
let file: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-vault-source-'))
  file = join(directory, 'token')
  writeFileSync(file, 'x', { mode: 0o600 })
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** A source whose secret variables are in `env` too. */
function sourceOf(env: Record<string, string>) {
  const all = { PATH: process.env['PATH'] ?? '', ...env }
  return vaultSource(all, (name) =>
    env[name] === undefined ? null : new SecretBytes(offHeapCopy(Buffer.from(env[name]))),
  )
}

test('is configured by VAULT_ADDR alone, and names the host only', () => {
  expect(sourceOf({ VAULT_TOKEN: 'x', VAULT_TOKEN_FILE: 'y' })).toBeNull()
  expect(sourceOf({ VAULT_ADDR: address, VAULT_TOKEN_FILE: file })).toMatchObject({
    kind: 'vault',
    describe: 'Vault at vault.example:8200',
    warning: null,
  })
})

test.each([
  ['an empty address', { VAULT_ADDR: '', VAULT_TOKEN: 'hush' }, 'VAULT_ADDR is no URL'],
  ['one in the clear', { VAULT_ADDR: 'http://vault.example', VAULT_TOKEN: 'hush' }, 'VAULT_ADDR is http'],
  ['no way in', { VAULT_ADDR: address }, 'no way to log in'],
  ['an empty token', { VAULT_ADDR: address, VAULT_TOKEN: '' }, 'no way to log in'],
  ['two ways', { VAULT_ADDR: address, VAULT_TOKEN: 'hush', VAULT_ROLE_ID: 'r' }, 'are both set'],
])('%s is exit 78 before anybody is asked', (_, env, message) => {
  expect(() => sourceOf(env)).toThrow(
    expect.objectContaining({ exitCode: exitCodes.config, message: expect.stringContaining(message) }),
  )
  expect(() => sourceOf(env)).not.toThrow(/hush/)
})

test('warns of what is open to others: a secret in the environment, a file of everybody', () => {
  expect(sourceOf({ VAULT_ADDR: address, VAULT_TOKEN: 'hush' })?.warning).toMatch(/^VAULT_TOKEN came in/)
  const byRole = { VAULT_ADDR: address, VAULT_ROLE_ID: 'r' }
  expect(sourceOf({ ...byRole, VAULT_SECRET_ID: 'hush' })?.warning).toMatch(/^VAULT_SECRET_ID came in/)
  for (const [mode, open] of [
    [0o600, false],
    [0o640, false],
    [0o644, true],
    [0o602, true],
  ] as const) {
    chmodSync(file, mode)
    const warning = sourceOf({ ...byRole, VAULT_SECRET_ID_FILE: file })?.warning ?? null
    expect(warning !== null).toBe(open)
  }
  expect(sourceOf({ ...byRole, VAULT_SECRET_ID_FILE: join(directory, 'none') })?.warning).toBeNull()
})

test('every read asks anew; a login that stays is warned of until one does not', async () => {
  const vault = await VaultServer.start()
  vault.put({ key: key.toString('base64') })
  const { roleId, secretId } = vault.createRole()
  writeFileSync(file, secretId)
  chmodSync(file, 0o600)
  const env = { VAULT_ADDR: vault.address, VAULT_ROLE_ID: roleId, VAULT_SECRET_ID_FILE: file }
  const source = sourceOf(env)!
  vault.interjections.push(null, null, answering(403, { errors: ['permission denied'] }))
  expect(await source.read()).toEqual(key)
  expect(source.warning).toContain('could not be revoked')
  const newer = Buffer.alloc(32, 7)
  vault.put({ key: newer.toString('base64') })
  expect(await source.read()).toEqual(newer)
  expect(source.warning).toBeNull()
  await vault.close()
})
