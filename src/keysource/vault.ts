import { statSync } from 'node:fs'
import type { Environment } from '../config.ts'
import { StartError } from '../errors.ts'
import type { SecretBytes } from '../secret.ts'
import type { KeySource } from './key-source.ts'
import { readVariable } from './libc.ts'
import type { Variable } from './remote/child-protocol.ts'
import { fetchKey } from './remote/fetch-key.ts'
import { vaultProblem, vaultSecretVariables, vaultVariables } from './remote/vault-access.ts'

type SecretOf = (name: string) => SecretBytes | null

/**
 * HashiCorp Vault or OpenBao, KV version 2, or null where VAULT_ADDR is not set. Read by a child process. Throws
 * StartError 78 for what cannot be right; nothing is asked of Vault yet. `secretOf` reads the variables that are secret.
 */
export function vaultSource(env: Environment, secretOf: SecretOf = readVariable): KeySource | null {
  const address = env['VAULT_ADDR']
  if (address === undefined) return null
  const isSet = (name: string) =>
    (vaultSecretVariables as readonly string[]).includes(name)
      ? isSetSecret(name, secretOf)
      : (env[name] ?? '') !== ''
  const problem = vaultProblem(address, env['VAULT_NAMESPACE'], isSet)
  if (problem !== null) throw new StartError(problem.exit, problem.message, problem.hint)
  const place = `Vault at ${new URL(address).host}`
  const standing = [
    ...vaultSecretVariables.filter(isSet).map(exposedVariable),
    ...(['VAULT_TOKEN_FILE', 'VAULT_SECRET_ID_FILE'] as const).flatMap((name) =>
      exposedFile(name, env[name]),
    ),
  ]
  let ofLastRead: string | null = null
  return {
    kind: 'vault',
    describe: place,
    get warning() {
      const all = ofLastRead === null ? standing : [...standing, ofLastRead]
      return all.length === 0 ? null : all.join('; ')
    },
    read: async (signal) => {
      const variables = requestVariables(env, secretOf)
      const { key, warning } = await fetchKey({ kind: 'vault', place, variables, env, signal })
      ofLastRead = warning
      return key
    },
  }
}

function isSetSecret(name: string, secretOf: SecretOf): boolean {
  const value = secretOf(name)
  value?.wipe()
  return value !== null && value.length > 0
}

function requestVariables(env: Environment, secretOf: SecretOf): Variable[] {
  const variables: Variable[] = []
  for (const name of vaultVariables) {
    const value = env[name]
    if (value !== undefined) variables.push([name, value])
  }
  for (const name of vaultSecretVariables) {
    const value = secretOf(name)
    if (value !== null) variables.push([name, value])
  }
  return variables
}

function exposedVariable(name: string): string {
  return `${name} came in the environment, which whoever starts the daemon keeps and systemctl shows: use ${name}_FILE with a systemd credential instead`
}

/** A warning and no refusal: the contract checks the mode of a key file alone, and mounted secrets are often 0644. */
function exposedFile(name: string, path: string | undefined): string[] {
  if (path === undefined || path === '') return []
  try {
    const mode = statSync(path).mode & 0o777
    if ((mode & 0o007) === 0) return []
    return [
      `every user of this host can get at the file of ${name} (mode 0${mode.toString(8)}): chmod it to 0600`,
    ]
  } catch {
    // A file that is not there yet is the read's to complain about.
    return []
  }
}
