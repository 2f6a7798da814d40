import { botNames, type FieldMap, type Secrets, secretFields } from './input/bot-names.ts'

type Env = Readonly<Record<string, string | undefined>>

/** What the launcher sets for purser itself. */
const launcherNames = new Set(['GLIBC_TUNABLES', 'UV_USE_IO_URING', 'LD_BIND_NOW'])
/** Sources of purser's master key, what a service manager hands to purser, and what changes how Node loads code. */
const strippedNames = new Set([
  'MASTER_ENCRYPTION_KEY',
  'ENCRYPTED_MASTER_KEY',
  'AWS_KMS_KEY_ID',
  'CREDENTIALS_DIRECTORY',
  'NOTIFY_SOCKET',
  'NODE_OPTIONS',
])
const strippedPrefixes = ['PURSER_', 'VAULT_', 'LISTEN_']
/** Under these names the launcher keeps what it took away or changed for purser. */
const callerPrefix = 'PURSER_CALLER_'

function isStripped(name: string): boolean {
  return strippedNames.has(name) || strippedPrefixes.some((prefix) => name.startsWith(prefix))
}

/** The environment purser was called with, without what is purser's own. */
function callerEnvironment(parent: Env): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(parent))
    if (value !== undefined && !launcherNames.has(name) && !isStripped(name)) env[name] = value
  for (const [name, value] of Object.entries(parent)) {
    const original = name.startsWith(callerPrefix) ? name.slice(callerPrefix.length) : ''
    if (value !== undefined && original !== '' && !isStripped(original)) env[original] = value
  }
  return env
}

/**
 * The environment of a bot under `purser exec`: the caller's without what is purser's own, and the secrets under every
 * name that bots use, and those of `map`. A field without a value is absent under all its names, also where the caller
 * had one: a bot must not mix two wallets.
 */
export function childEnvironment(parent: Env, secrets: Secrets, map: FieldMap = {}): Record<string, string> {
  const env = callerEnvironment(parent)
  for (const field of secretFields) {
    const mapped = map[field]
    const value = secrets[field]
    for (const name of mapped === undefined ? botNames[field] : [...botNames[field], mapped]) {
      if (value === undefined) delete env[name]
      else env[name] = value
    }
  }
  return env
}

/** Whether the caller set NODE_OPTIONS, which the child does not get. */
export function losesNodeOptions(parent: Env): boolean {
  return Boolean(parent['NODE_OPTIONS'] || parent[`${callerPrefix}NODE_OPTIONS`])
}
