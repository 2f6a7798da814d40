import type { Config, Environment } from '../config.ts'
import { awsKmsSource } from './aws-kms.ts'
import { dataDirectorySource } from './data-directory.ts'
import { type EnvironmentKey, environmentSource } from './environment.ts'
import { readKeyFile } from './key-file.ts'
import type { KeySource } from './key-source.ts'
import { systemdCredentialSource } from './systemd-credential.ts'
import { vaultSource } from './vault.ts'

/**
 * The first key source that is configured, and only that one: a source that fails never hands over to the next, which
 * might hold an old key. Order: key file, systemd credential, environment, AWS KMS, Vault, data directory. Wipes
 * `environmentKey` (see takeEnvironmentKey) where another source comes first. Throws StartError where none can serve;
 * nothing is read or generated yet.
 */
export function selectKeySource(
  config: Config,
  env: Environment,
  environmentKey: EnvironmentKey | null,
): KeySource {
  const before = fileSource(config) ?? systemdCredentialSource(env)
  if (before !== null) {
    environmentKey?.wipe()
    return environmentKey === null ? before : { ...before, warning: unusedEnvironmentKey(before) }
  }
  if (environmentKey !== null) return environmentSource(environmentKey)
  return awsKmsSource(env) ?? vaultSource(env) ?? dataDirectorySource(config.dataDir, config.store.path, env)
}

function fileSource(config: Config): KeySource | null {
  const { file } = config.key
  if (file === null) return null
  return {
    kind: 'file',
    describe: `key file ${file}`,
    file,
    warning: null,
    read: () => readKeyFile(file, 'owner-and-mode'),
  }
}

function unusedEnvironmentKey(source: KeySource): string {
  return `MASTER_ENCRYPTION_KEY is set but not used, because the master key comes from ${source.describe}: unset it`
}
