import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { keyIdOf } from '../../src/vault/keyring.ts'
import { refused, type Start, start } from './support/daemon.ts'
import { KmsServer } from './support/kms-server.ts'
import { VaultServer } from './support/vault-server.ts'

let directory: string
let kms: KmsServer
let vault: VaultServer
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'purser-sources-'))
  kms = await KmsServer.start()
  vault = await VaultServer.start()
})
afterAll(async () => {
  await Promise.all([kms.close(), vault.close()])
  rmSync(directory, { recursive: true, force: true })
})

function keyFile(key: Buffer, mode = 0o600): string {
  const path = join(directory, `key-${randomBytes(4).toString('hex')}`)
  writeFileSync(path, `${key.toString('base64')}\n`, { mode })
  return path
}

/** Every source but the data directory, by the kind that `describe` begins with. */
const sources: [name: string, describe: RegExp, start: (key: Buffer) => Start][] = [
  ['key file', /^key file \//, (key) => ({ args: ['--master-key-file', keyFile(key)] })],
  [
    'systemd credential',
    /^systemd credential master-key$/,
    (key) => {
      const credentials = mkdtempSync(join(directory, 'credentials-'))
      writeFileSync(join(credentials, 'master-key'), key.toString('base64'))
      return { env: { CREDENTIALS_DIRECTORY: credentials } }
    },
  ],
  [
    'environment',
    /^MASTER_ENCRYPTION_KEY$/,
    (key) => ({ env: { MASTER_ENCRYPTION_KEY: key.toString('base64url') } }),
  ],
  [
    'AWS KMS',
    /^AWS KMS/,
    (key) => ({ env: { ...kms.env, ENCRYPTED_MASTER_KEY: kms.encrypt(kms.createKey(), key) } }),
  ],
  [
    'Vault, token file',
    /^Vault at 127\.0\.0\.1:\d+$/,
    (key) => {
      const namespace = randomBytes(4).toString('hex')
      vault.put({ key: key.toString('hex') }, namespace)
      const file = join(directory, `token-${namespace}`)
      writeFileSync(file, `${vault.createToken('read', namespace)}\n`, { mode: 0o600 })
      return { env: { VAULT_ADDR: vault.address, VAULT_NAMESPACE: namespace, VAULT_TOKEN_FILE: file } }
    },
  ],
  [
    'Vault, AppRole',
    /^Vault at 127\.0\.0\.1:\d+$/,
    (key) => {
      const namespace = randomBytes(4).toString('hex')
      vault.put({ key: key.toString('hex') }, namespace)
      const { roleId, secretId } = vault.createRole()
      const login = { VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId }
      return { env: { VAULT_ADDR: vault.address, VAULT_NAMESPACE: namespace, ...login } }
    },
  ],
]

const freshDirectory = () => mkdtempSync(join(directory, 'data-'))
const secretOf = (seed: number) => `${Buffer.alloc(32, seed).toString('base64url')}=`

describe.each(sources)('%s', (_, describes, startWith) => {
  test.concurrent('makes a store, opens it after a restart, and not with another key', async () => {
    const key = randomBytes(32)
    const data = freshDirectory()
    const given = startWith(key)
    const purser = await start(data, given)
    try {
      const status = await purser.rpc('system.status')
      expect(status['masterKey']).toMatchObject({
        source: expect.stringMatching(describes),
        keyId: keyIdOf(key),
      })
      await purser.rpc('credentials.store', { userId: 'alice', apiKey: 'k', apiSecret: secretOf(1) })
      await purser.restart()
      expect(await purser.rpc('credentials.retrieve', { userId: 'alice' })).toMatchObject({
        apiSecret: secretOf(1),
      })
      expect(purser.logs().join('\n')).not.toContain(key.toString('base64').slice(0, 20))
    } finally {
      await purser.stop()
    }
    const before = readFileSync(join(data, 'purser.db'))
    const { exitCode, line } = await refused(start(data, startWith(randomBytes(32))))
    expect(exitCode).toBe(77)
    expect(line).toContain(`does not open this store (it was made with key ${keyIdOf(key)})`)
    expect(readFileSync(join(data, 'purser.db')).equals(before)).toBe(true)
    expect(existsSync(join(data, 'master.key'))).toBe(false)
  })
})

describe('the data directory', () => {
  test('a key is generated once, found after a restart, and missed where it is gone', async () => {
    const data = freshDirectory()
    const path = join(data, 'master.key')
    const purser = await start(data, {})
    try {
      expect(purser.logs().join('\n')).toContain('a master key was generated into')
      await purser.restart()
      expect((await purser.rpc('system.status'))['masterKey']).toMatchObject({ source: path })
    } finally {
      await purser.stop()
    }
    rmSync(path)
    expect(await refused(start(data, {}))).toMatchObject({ exitCode: 77 })
    writeFileSync(path, randomBytes(32).toString('hex'), { mode: 0o600 })
    expect(await refused(start(data, {}))).toMatchObject({ exitCode: 77 })
  })
})

describe('without machine code made at run time (PURSER_JITLESS=1)', () => {
  test.concurrent.each(sources.slice(3))('%s', async (_, describes, startWith) => {
    const purser = await start(freshDirectory(), startWith(randomBytes(32)), { PURSER_JITLESS: '1' })
    try {
      const { source } = (await purser.rpc('system.status'))['masterKey'] as { source: string }
      expect(source).toMatch(describes)
    } finally {
      await purser.stop()
    }
  })
})
