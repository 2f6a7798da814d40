import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { endpointProblem } from './endpoint.ts'
import { SourceError } from './source-error.ts'

/** What says where Vault is and how to get in, of which nothing is secret. */
export const vaultVariables = [
  'VAULT_ADDR',
  'VAULT_NAMESPACE',
  'VAULT_CACERT',
  'VAULT_TOKEN_FILE',
  'VAULT_ROLE_ID',
  'VAULT_SECRET_ID_FILE',
] as const

/** Those that are as good as the key. */
export const vaultSecretVariables = ['VAULT_TOKEN', 'VAULT_SECRET_ID'] as const

type Name = (typeof vaultVariables)[number] | (typeof vaultSecretVariables)[number]

/** How to get at a Vault or OpenBao, checked. */
export type VaultAccess = {
  readonly address: string
  readonly namespace: string | null
  /** Certificates (PEM) to trust in place of the usual ones. */
  readonly ca: string | null
  readonly login:
    | { readonly kind: 'token'; readonly token: string }
    | { readonly kind: 'approle'; readonly roleId: string; readonly secretId: string }
}

/** Header values as Vault's own are: printable, without blanks. Anything else could end a header and begin another. */
export function isHeaderValue(text: string): boolean {
  return /^[\x21-\x7e]{1,8192}$/.test(text)
}

/** A chain of certificates is some 10 KiB; the whole bundle of a distribution 250. */
const caBytesMax = 1024 * 1024
const secretBytesMax = 16 * 1024

/**
 * What is wrong with the variables as they are, before any of them is followed; null where nothing is. `isSet` says
 * whether one has a value: an empty one counts as not set.
 */
export function vaultProblem(
  address: string,
  namespace: string | undefined,
  isSet: (name: Name) => boolean,
): SourceError | null {
  const wrong = (message: string, hint: string) => new SourceError(message, hint, { exit: 'config' })
  const problem = endpointProblem(address)
  if (problem !== null) return wrong(`VAULT_ADDR ${problem}`, 'set it like https://vault.example:8200')
  if (namespace !== undefined && namespace !== '' && !isHeaderValue(namespace)) {
    return wrong('VAULT_NAMESPACE is no namespace', 'set it like team/bots')
  }
  const ways = (['VAULT_TOKEN', 'VAULT_TOKEN_FILE', 'VAULT_ROLE_ID'] as const).filter(isSet)
  const [way, other] = ways
  if (way === undefined) {
    return wrong(
      'VAULT_ADDR is set, but no way to log in',
      'set VAULT_TOKEN_FILE, or VAULT_ROLE_ID and VAULT_SECRET_ID_FILE',
    )
  }
  if (other !== undefined) return wrong(`${way} and ${other} are both set`, 'unset one of them')
  if (way !== 'VAULT_ROLE_ID') return null
  const secrets = (['VAULT_SECRET_ID', 'VAULT_SECRET_ID_FILE'] as const).filter(isSet)
  if (secrets.length === 1) return null
  return secrets.length === 0
    ? wrong('VAULT_ROLE_ID is set without its secret id', 'set VAULT_SECRET_ID_FILE')
    : wrong('VAULT_SECRET_ID and VAULT_SECRET_ID_FILE are both set', 'unset one of them')
}

/** The access the variables give, files read. Throws SourceError. */
export async function vaultAccess(env: Readonly<Record<string, string | undefined>>): Promise<VaultAccess> {
  const value = (name: Name) => env[name] || null
  const address = value('VAULT_ADDR') ?? ''
  const problem = vaultProblem(address, env['VAULT_NAMESPACE'], (name) => value(name) !== null)
  if (problem !== null) throw problem
  const caFile = value('VAULT_CACERT')
  const roleId = value('VAULT_ROLE_ID')
  return {
    address,
    namespace: value('VAULT_NAMESPACE'),
    ca: caFile === null ? null : await readText('VAULT_CACERT', caFile, caBytesMax),
    login:
      roleId === null
        ? { kind: 'token', token: await secret('VAULT_TOKEN', 'VAULT_TOKEN_FILE') }
        : { kind: 'approle', roleId, secretId: await secret('VAULT_SECRET_ID', 'VAULT_SECRET_ID_FILE') },
  }

  async function secret(direct: Name, inFile: Name): Promise<string> {
    const path = value(inFile)
    const text = (value(direct) ?? (await readText(inFile, path ?? '', secretBytesMax))).trim()
    if (isHeaderValue(text)) return text
    const place = path === null ? direct : `the file of ${inFile}`
    throw new SourceError(`${place} holds no token`, 'put the token or secret id there and nothing else', {
      exit: path === null ? 'config' : 'masterKey',
    })
  }
}

async function readText(name: Name, path: string, bytesMax: number): Promise<string> {
  const failed = (what: string, cause?: unknown) =>
    new SourceError(`the file of ${name}, ${path}, ${what}`, 'let the daemon user read it', { cause })
  try {
    // O_NONBLOCK: a FIFO without a writer would hang the open.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const stat = await file.stat()
      if (!stat.isFile()) throw failed('is not a regular file')
      if (stat.size > bytesMax) throw failed('is too large')
      return await file.readFile('utf8')
    } finally {
      await file.close()
    }
  } catch (error) {
    if (error instanceof SourceError) throw error
    throw failed(`cannot be read (${(error as NodeJS.ErrnoException).code})`, error)
  }
}
