import { encodeMasterKeyBase64, type MasterKeyBytes } from '../parse-key.ts'
import { type Answer, exchange } from './exchange.ts'
import { keyFrom } from './key-material.ts'
import { SourceError } from './source-error.ts'
import { type RequestLimits, withTries } from './tries.ts'
import { isHeaderValue, type VaultAccess } from './vault-access.ts'

/** Where the contract puts the key: KV v2, mount `secret`. */
const secretPath = 'secret/data/polymarket/master_encryption_key'
const field = 'key'

/** What an act brings, and what the operator should hear although it worked. */
export type VaultResult<T> = { readonly result: T; readonly warning: string | null }

/** Reads the master key. The token of an AppRole login is revoked afterwards. Throws SourceError. */
export function readFromVault(
  access: VaultAccess,
  limits: RequestLimits,
): Promise<VaultResult<MasterKeyBytes>> {
  return withToken(access, limits, async (token) => {
    const answer = await call(access, limits, { method: 'GET', path: secretPath, token })
    const value = member(member(member(parsed(answer), 'data'), 'data'), field)
    if (typeof value === 'string') return keyFrom(Buffer.from(value), 'text')
    throw new SourceError(
      `the secret ${secretPath} has no field ${field} that is text`,
      'put the key there with `purser key wrap vault`',
    )
  })
}

/**
 * Stores `key` as a version of the secret and answers its number. Without `replace` only where there is none yet
 * (check-and-set 0). Throws SourceError.
 */
export async function writeToVault(
  access: VaultAccess,
  request: { readonly key: MasterKeyBytes; readonly replace: boolean },
  limits: RequestLimits,
): Promise<VaultResult<number | null>> {
  const text = encodeMasterKeyBase64(request.key)
  const options = request.replace ? {} : { options: { cas: 0 } }
  const body = Buffer.from(JSON.stringify({ ...options, data: { [field]: text.toString('latin1') } }))
  try {
    return await withToken(access, limits, async (token) => {
      const answer = await call(access, limits, { method: 'POST', path: secretPath, token, body })
      const version = member(member(parsed(answer), 'data'), 'version')
      return typeof version === 'number' ? version : null
    })
  } finally {
    text.fill(0)
    body.fill(0)
  }
}

/** Runs `act` with a token: the configured one, or that of a login, which ends when `act` does. */
async function withToken<T>(
  access: VaultAccess,
  limits: RequestLimits,
  act: (token: string) => Promise<T>,
): Promise<VaultResult<T>> {
  if (access.login.kind === 'token') return { result: await act(access.login.token), warning: null }
  const token = await logIn(access, access.login, limits)
  let result: T
  try {
    result = await act(token)
  } catch (error) {
    await revoke(access, limits, token)
    throw error
  }
  return { result, warning: await revoke(access, limits, token) }
}

async function logIn(
  access: VaultAccess,
  { roleId, secretId }: { readonly roleId: string; readonly secretId: string },
  limits: RequestLimits,
): Promise<string> {
  const body = Buffer.from(JSON.stringify({ role_id: roleId, secret_id: secretId }))
  try {
    const answer = await call(access, limits, {
      method: 'POST',
      path: 'auth/approle/login',
      token: null,
      body,
    })
    const token = member(member(parsed(answer), 'auth'), 'client_token')
    if (typeof token === 'string' && isHeaderValue(token)) return token
    throw malformedAnswer()
  } finally {
    body.fill(0)
  }
}

/** Ends the token; answers what to tell the operator where that failed. The key has been read: it does not throw. */
async function revoke(access: VaultAccess, limits: RequestLimits, token: string): Promise<string | null> {
  // A batch token lives nowhere in Vault, cannot be revoked, and ends with its short lease.
  if (/^(hvb|b)\./.test(token)) return null
  try {
    await call(access, limits, { method: 'POST', path: 'auth/token/revoke-self', token })
    return null
  } catch (error) {
    const reason = error instanceof SourceError ? error.message : 'unknown reason'
    return `the token of the AppRole login to Vault could not be revoked (${reason}): it ends with its lease, which should be short`
  }
}

type Call = {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly token: string | null
  readonly body?: Buffer
}

async function call(access: VaultAccess, limits: RequestLimits, request: Call): Promise<Answer> {
  const { method, path, token, body = null } = request
  const headers = {
    accept: 'application/json',
    // Vault asks its clients for it: a request that somebody's browser was tricked into lacks it.
    'x-vault-request': 'true',
    ...(token === null ? {} : { 'x-vault-token': token }),
    ...(access.namespace === null ? {} : { 'x-vault-namespace': access.namespace }),
    ...(body === null
      ? { 'content-length': '0' }
      : { 'content-type': 'application/json', 'content-length': String(body.length) }),
  }
  const url = new URL(`${access.address.replace(/\/+$/, '')}/v1/${path}`)
  return withTries(limits, async (signal) => {
    const answer = await exchange({ method, url, headers, body, ca: access.ca ?? undefined, signal })
    if (answer.status >= 200 && answer.status < 300) return answer
    throw refusal(answer, path)
  })
}

/** Vault's words are looked at and not repeated: an answer may hold what was sent. */
function refusal(answer: Answer, path: string): SourceError {
  const { status } = answer
  const says = (text: string) => answer.body.includes(text)
  const failure = (what: string, hint: string, retry = false) =>
    new SourceError(`${what} (${status})`, hint, { retry })
  if (status >= 300 && status < 400) {
    return failure('it redirects elsewhere', 'set VAULT_ADDR to the address it redirects to')
  }
  if (status === 503 && says('sealed')) return failure('it is sealed', 'unseal Vault', true)
  if (status === 429) return failure('too many requests, or it is a standby', 'try again later', true)
  // 412: an enterprise standby is behind; 472 and 473: a standby of disaster recovery or performance.
  if (status === 412 || status === 472 || status === 473 || status >= 500) {
    return failure('it cannot answer now', 'see the log of Vault', true)
  }
  if (path === 'auth/approle/login') {
    return failure(
      'it refused the AppRole login',
      'correct VAULT_ROLE_ID and the secret id, which may be used up or expired, or enable auth/approle',
    )
  }
  if (status === 403) {
    return failure(
      `it refused access to ${path}`,
      'give a valid token whose policy allows it, and the right VAULT_NAMESPACE',
    )
  }
  if (status === 404) return notThere(answer, path)
  if (status === 400 && says('did not match the current version')) {
    return failure(`the secret ${path} exists already`, 'add --replace to make a new version of it')
  }
  return failure(
    `it did not accept the request for ${path}`,
    'see whether KV version 2 is mounted at secret/',
  )
}

function notThere(answer: Answer, path: string): SourceError {
  if (answer.body.includes('deletion_time')) {
    return new SourceError(
      `the newest version of the secret ${path} was deleted (404)`,
      'undelete it, or put the key there again with `purser key wrap vault --replace`',
    )
  }
  return new SourceError(
    `there is no secret ${path} (404)`,
    'put the key there with `purser key wrap vault`, into KV version 2 at secret/, and see VAULT_NAMESPACE',
  )
}

function malformedAnswer(): SourceError {
  return new SourceError('its answer is not that of Vault', 'see whether VAULT_ADDR is the address of Vault')
}

/** The answer as JSON; its bytes are wiped. */
function parsed(answer: Answer): unknown {
  try {
    return JSON.parse(answer.body.toString('utf8'))
  } catch {
    throw malformedAnswer()
  } finally {
    answer.body.fill(0)
  }
}

/** An own member of an answer; undefined where there is none. */
function member(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return (value as Record<string, unknown>)[name]
}
