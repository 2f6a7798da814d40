import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { refused, start } from './support/daemon.ts'
import { KmsServer } from './support/kms-server.ts'
import { VaultServer } from './support/vault-server.ts'

let directory: string
let kms: KmsServer
let vault: VaultServer
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'purser-failures-'))
  kms = await KmsServer.start()
  vault = await VaultServer.start()
})
afterAll(async () => {
  await Promise.all([kms.close(), vault.close()])
  rmSync(directory, { recursive: true, force: true })
})

const freshDirectory = () => mkdtempSync(join(directory, 'data-'))

describe('a source that fails', () => {
  test.concurrent('Vault: exit 77 in one line, nothing is made, no token in it', async () => {
    const data = freshDirectory()
    const { exitCode, line } = await refused(
      start(data, { env: { VAULT_ADDR: vault.address, VAULT_TOKEN: 'hvs.hush-hush' } }),
    )
    expect(exitCode).toBe(77)
    expect(line).toMatch(
      /^purserd: no master key from Vault at \S+: it refused access to \S+ \(403\); give a valid token/,
    )
    expect(line).not.toContain('hush')
    expect(existsSync(join(data, 'purser.db'))).toBe(false)
    expect(existsSync(join(data, 'master.key'))).toBe(false)
  })

  test.concurrent('AWS KMS: the same', async () => {
    const data = freshDirectory()
    const env = { ...kms.env, ENCRYPTED_MASTER_KEY: randomBytes(100).toString('base64') }
    const { exitCode, line } = await refused(start(data, { env }))
    expect(exitCode).toBe(77)
    expect(line).toMatch(
      /^purserd: no master key from AWS KMS: it answered InvalidCiphertextException \(400\);/,
    )
    expect(existsSync(join(data, 'purser.db'))).toBe(false)
    expect(existsSync(join(data, 'master.key'))).toBe(false)
  })

  test.concurrent.each([
    ['ciphertext that is none', { ENCRYPTED_MASTER_KEY: 'x y' }, 'ENCRYPTED_MASTER_KEY is not base64'],
    [
      'an address in the clear',
      { ENCRYPTED_MASTER_KEY: 'AAAA', AWS_ENDPOINT_URL: 'http://kms.example' },
      'AWS_ENDPOINT_URL is http to another host',
    ],
    ['Vault in the clear', { VAULT_ADDR: 'http://vault.example', VAULT_TOKEN: 'x' }, 'VAULT_ADDR is http to'],
    ['no login', { VAULT_ADDR: 'https://vault.example' }, 'no way to log in'],
    ['an empty address', { VAULT_ADDR: '' }, 'VAULT_ADDR is no URL'],
  ])('%s is exit 78', async (_, env, text) => {
    const { exitCode, line } = await refused(start(freshDirectory(), { env }))
    expect(exitCode).toBe(78)
    expect(line).toContain(text)
  })
})

describe('warnings', () => {
  test('of a token in the environment, and of a token file open to others', async () => {
    const namespace = 'warned'
    vault.put({ key: randomBytes(32).toString('hex') }, namespace)
    const token = vault.createToken('read', namespace)
    const openFile = join(directory, 'open-token')
    writeFileSync(openFile, token, { mode: 0o644 })
    const at = { VAULT_ADDR: vault.address, VAULT_NAMESPACE: namespace }
    const warnings = async (env: Record<string, string>) => {
      const purser = await start(freshDirectory(), { env: { ...at, ...env } })
      const logs = purser.logs().join('\n')
      await purser.stop()
      return logs
    }
    const [inEnvironment, inFile] = await Promise.all([
      warnings({ VAULT_TOKEN: token }),
      warnings({ VAULT_TOKEN_FILE: openFile }),
    ])
    expect(inEnvironment).toContain('VAULT_TOKEN came in the environment')
    expect(inEnvironment).not.toContain(token)
    expect(inFile).toContain('every user of this host can get at the file of VAULT_TOKEN_FILE (mode 0644)')
  })
})
