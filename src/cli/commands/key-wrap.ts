import { spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { StartError } from '../../errors.ts'
import { encodeMasterKeyBase64, type MasterKeyBytes } from '../../keysource/parse-key.ts'
import { encryptWithKms } from '../../keysource/remote/kms.ts'
import { SourceError } from '../../keysource/remote/source-error.ts'
import { requestLimits } from '../../keysource/remote/tries.ts'
import { writeToVault } from '../../keysource/remote/vault.ts'
import { vaultAccess } from '../../keysource/remote/vault-access.ts'
import { keyIdOf } from '../../vault/keyring.ts'
import { type Cli, type GlobalOptions, note, print } from '../cli.ts'
import { CliError, usageError } from '../cli-error.ts'
import { readBounded } from '../input/bounded.ts'
import { type KeyInput, requireMasterKey } from '../input/master-key.ts'
import { putIntoNewFile } from './key-out.ts'

/** `purser key wrap kms`: prints what ENCRYPTED_MASTER_KEY is to be. */
export async function wrapForKms(
  cli: Cli,
  options: GlobalOptions,
  input: KeyInput & { readonly keyId?: string },
): Promise<void> {
  const kmsKey = input.keyId ?? (cli.env['AWS_KMS_KEY_ID'] || undefined)
  if (kmsKey === undefined) throw usageError('which KMS key?', 'give --key-id ID or set AWS_KMS_KEY_ID')
  const wrapped = await withKey(cli, input, async (key) => {
    const ciphertext = await encryptWithKms({ key, keyId: kmsKey }, requestLimits)
    return { keyId: keyIdOf(key), encryptedMasterKey: Buffer.from(ciphertext).toString('base64') }
  })
  await print(cli, options, wrapped, ({ encryptedMasterKey }) => `${encryptedMasterKey}\n`)
  note(cli, `key id ${wrapped.keyId}`)
}

/** `purser key wrap vault`: puts the key where purserd reads it. */
export async function wrapForVault(
  cli: Cli,
  options: GlobalOptions,
  input: KeyInput & { readonly replace?: boolean },
): Promise<void> {
  const stored = await withKey(cli, input, async (key) => {
    const access = await vaultAccess(cli.env)
    const request = { key, replace: input.replace === true }
    const { result, warning } = await writeToVault(access, request, requestLimits)
    if (warning !== null) note(cli, warning)
    return { keyId: keyIdOf(key), version: result }
  })
  await print(cli, options, stored, ({ keyId, version }) => `stored key ${keyId} as version ${version}\n`)
}

export type CredentialOptions = KeyInput & { readonly out?: string; readonly withKey?: string }

/** `purser key wrap systemd-creds`: the encrypted credential on stdout or in the new file `out`. */
export async function wrapForSystemd(
  cli: Cli,
  options: GlobalOptions,
  input: CredentialOptions,
): Promise<void> {
  const { keyId, credential } = await withKey(cli, input, async (key) => ({
    keyId: keyIdOf(key),
    credential: await encryptCredential(cli, key, input.withKey),
  }))
  if (input.out === undefined) {
    const made = { keyId, credential: credential.toString('latin1') }
    await print(cli, options, made, (answer) => `${answer.credential}\n`)
    note(cli, `key id ${keyId}`)
    return
  }
  const path = resolve(input.out)
  await putIntoNewFile(path, credential)
  await print(cli, options, { keyId, path }, () => `made ${path} (0600), key id ${keyId}\n`)
}

/** Reads the key, hands it to `act` and wipes it. Throws CliError. */
async function withKey<T>(cli: Cli, input: KeyInput, act: (key: MasterKeyBytes) => Promise<T>): Promise<T> {
  let key: MasterKeyBytes | null = null
  try {
    key = await requireMasterKey(cli, input)
    return await act(key)
  } catch (error) {
    throw asCliError(error)
  } finally {
    key?.fill(0)
  }
}

function asCliError(error: unknown): unknown {
  if (error instanceof SourceError) {
    const exit = error.retry ? 'retryable' : error.exit === 'config' ? 'usage' : 'refused'
    return new CliError(exit, `nothing was wrapped: ${error.message}`, error.hint, error)
  }
  if (error instanceof StartError) {
    const exit = error.exitCode === 78 ? 'badInput' : 'noInput'
    return new CliError(exit, error.message, error.hint, error)
  }
  return error
}

/** What systemd-creds makes of a key is some 300 bytes; with a TPM a few thousand. */
const credentialBytesMax = 64 * 1024

/** Runs systemd-creds with the key on its stdin; answers the encrypted credential without its last line feed. */
async function encryptCredential(
  cli: Cli,
  key: MasterKeyBytes,
  sealedBy: string | undefined,
): Promise<Buffer> {
  const args = ['encrypt', '--name=master-key', ...(sealedBy === undefined ? [] : [`--with-key=${sealedBy}`])]
  const child = spawn('systemd-creds', [...args, '-', '-'], {
    env: { PATH: cli.env['PATH'] ?? '/usr/bin:/bin' },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = new Promise<number | string>((done, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => done(signal ?? code ?? 0))
  })
  const text = encodeMasterKeyBase64(key)
  child.stdin.on('error', () => undefined)
  child.stdin.end(text, () => text.fill(0))
  try {
    const [credential, outcome] = await Promise.all([
      readBounded(child.stdout, credentialBytesMax, 'systemd-creds'),
      ended,
    ])
    if (outcome === 0 && credential.length > 0) return trimEnd(credential)
    throw new CliError(
      'refused',
      `systemd-creds failed (${outcome})`,
      'see what it said above; it needs root, on the host that runs purserd',
    )
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new CliError(
      'commandNotFound',
      'systemd-creds: command not found',
      'it comes with systemd 250',
      error,
    )
  } finally {
    text.fill(0)
  }
}

function trimEnd(text: Buffer): Buffer {
  let end = text.length
  while (end > 0 && text[end - 1] === 0x0a) end -= 1
  return text.subarray(0, end)
}
