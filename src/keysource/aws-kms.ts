import type { Environment } from '../config.ts'
import { StartError } from '../errors.ts'
import type { SecretBytes } from '../secret.ts'
import type { KeySource } from './key-source.ts'
import { readVariable } from './libc.ts'
import { awsProblem, awsSecretVariables, awsVariables, decodeCiphertext } from './remote/aws-variables.ts'
import type { Variable } from './remote/child-protocol.ts'
import { fetchKey } from './remote/fetch-key.ts'

const variable = 'ENCRYPTED_MASTER_KEY'

/**
 * A key encrypted by AWS KMS, or null where ENCRYPTED_MASTER_KEY is not set. Decrypted by a child process, with region,
 * endpoint and credentials as the AWS SDK reads them there. Throws StartError 78 for what cannot be right; nothing is
 * asked of AWS yet. `secretOf` reads the variables that are secret.
 */
export function awsKmsSource(
  env: Environment,
  secretOf: (name: string) => SecretBytes | null = readVariable,
): KeySource | null {
  const ciphertext = env[variable]
  if (ciphertext === undefined) return null
  if (decodeCiphertext(ciphertext) === null) {
    throw new StartError(
      'config',
      `${variable} is not base64 of at most 6144 bytes`,
      'set it to what `purser key wrap kms` printed',
    )
  }
  const problem = awsProblem(env)
  if (problem !== null) throw new StartError(problem.exit, problem.message, problem.hint)
  return {
    kind: 'aws-kms',
    describe: `AWS KMS (${variable})`,
    warning: null,
    read: async (signal) => {
      const fetched = await fetchKey({
        kind: 'aws-kms',
        place: 'AWS KMS',
        variables: requestVariables(env, secretOf),
        env,
        signal,
      })
      return fetched.key
    },
  }
}

function requestVariables(env: Environment, secretOf: (name: string) => SecretBytes | null): Variable[] {
  const variables: Variable[] = []
  for (const name of [variable, 'AWS_KMS_KEY_ID', ...awsVariables]) {
    const value = env[name]
    if (value !== undefined) variables.push([name, value])
  }
  for (const name of awsSecretVariables) {
    const value = secretOf(name)
    if (value !== null) variables.push([name, value])
  }
  return variables
}
