import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { loadConfig } from '../../src/config.ts'
import { exitCodes } from '../../src/errors.ts'
import { selectKeySource } from '../../src/keysource/select.ts'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'

let directory: string
let data: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-select-'))
  data = join(directory, 'data')
  mkdirSync(data)
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const keyText = (byte: string) => byte.repeat(32)

/** Everything configured at once; each test takes away what comes first. */
function everything() {
  const keyFile = join(directory, 'key')
  const credentials = join(directory, 'credentials')
  writeFileSync(keyFile, keyText('01'), { mode: 0o600 })
  mkdirSync(credentials)
  writeFileSync(join(credentials, 'master-key'), keyText('02'))
  writeFileSync(join(data, 'master.key'), keyText('06'), { mode: 0o600 })
  return {
    flags: { 'master-key-file': keyFile },
    environmentKey: new SecretBytes(offHeapCopy(Buffer.from(keyText('03')))),
    env: {
      CREDENTIALS_DIRECTORY: credentials,
      ENCRYPTED_MASTER_KEY: 'AQID',
      VAULT_ADDR: 'https://127.0.0.1:8200',
      VAULT_TOKEN_FILE: join(directory, 'token'),
    } as Record<string, string>,
  }
}

function select(
  flags: { 'master-key-file'?: string },
  env: Record<string, string>,
  environmentKey: SecretBytes | null,
) {
  return selectKeySource(loadConfig({ flags: { 'data-dir': data, ...flags }, env }), env, environmentKey)
}

describe('the first that is configured', () => {
  test('is the key file; a key in the environment is wiped, and warned of', async () => {
    const { flags, env, environmentKey } = everything()
    const source = select(flags, env, environmentKey)
    expect(source).toMatchObject({ kind: 'file', describe: `key file ${flags['master-key-file']}` })
    expect(source.warning).toContain('MASTER_ENCRYPTION_KEY is set but not used')
    expect(await source.read()).toEqual(Buffer.alloc(32, 1))
    expect(environmentKey.bytes.every((byte) => byte === 0)).toBe(true)
    expect(select(flags, env, null).warning).toBeNull()
  })

  test('then the systemd credential', async () => {
    const { env, environmentKey } = everything()
    const source = select({}, env, environmentKey)
    expect(source.kind).toBe('systemd-credential')
    expect(await source.read()).toEqual(Buffer.alloc(32, 2))
    expect(environmentKey.bytes.every((byte) => byte === 0)).toBe(true)
  })

  test('then the environment', async () => {
    const { env, environmentKey } = everything()
    rmSync(join(directory, 'credentials/master-key'))
    const source = select({}, env, environmentKey)
    expect(source.kind).toBe('environment')
    expect(await source.read()).toEqual(Buffer.alloc(32, 3))
  })

  test('then AWS KMS, then Vault', () => {
    const { env } = everything()
    rmSync(join(directory, 'credentials/master-key'))
    expect(select({}, env, null)).toMatchObject({
      kind: 'aws-kms',
      describe: 'AWS KMS (ENCRYPTED_MASTER_KEY)',
    })
    delete env['ENCRYPTED_MASTER_KEY']
    expect(select({}, env, null)).toMatchObject({ kind: 'vault', describe: 'Vault at 127.0.0.1:8200' })
  })

  test('then the data directory', async () => {
    everything()
    const source = select({}, {}, null)
    expect(source.kind).toBe('data-directory')
    expect(await source.read()).toEqual(Buffer.alloc(32, 6))
  })

  test('then one to be generated', async () => {
    const source = select({}, {}, null)
    expect(source.kind).toBe('generated')
    await source.read()
    expect(existsSync(join(data, 'master.key'))).toBe(true)
  })
})

describe('and only that one', () => {
  test('a key file that fails hands over to nobody', async () => {
    const { flags, env } = everything()
    rmSync(flags['master-key-file'])
    await expect(select(flags, env, null).read()).rejects.toMatchObject({ exitCode: exitCodes.masterKey })
  })

  test('a credential that is no key hands over to nobody', async () => {
    const { env } = everything()
    writeFileSync(join(directory, 'credentials/master-key'), '')
    await expect(select({}, env, null).read()).rejects.toMatchObject({ exitCode: exitCodes.config })
  })

  test('a key in the environment that is none hands over to nobody', async () => {
    everything()
    const source = select({}, {}, new SecretBytes(offHeapCopy(Buffer.from(''))))
    await expect(source.read()).rejects.toMatchObject({ exitCode: exitCodes.config })
  })

  test('KMS and Vault that are configured wrongly hand over to nobody', () => {
    everything()
    const refusal = expect.objectContaining({ exitCode: exitCodes.config })
    expect(() => select({}, { ENCRYPTED_MASTER_KEY: '' }, null)).toThrow(refusal)
    expect(() => select({}, { VAULT_ADDR: '' }, null)).toThrow(refusal)
    expect(() => select({}, { ENCRYPTED_MASTER_KEY: '', VAULT_ADDR: 'https://v' }, null)).toThrow(refusal)
  })

  test('a credentials directory without a master key under systemd is exit 77, not a new key', () => {
    mkdirSync(join(directory, 'empty'))
    expect(() => select({}, { CREDENTIALS_DIRECTORY: join(directory, 'empty') }, null)).toThrow(
      expect.objectContaining({ exitCode: exitCodes.masterKey }),
    )
  })
})
