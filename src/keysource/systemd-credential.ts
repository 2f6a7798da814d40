import { join } from 'node:path'
import type { Environment } from '../config.ts'
import { isThere, readKeyFile } from './key-file.ts'
import type { KeySource } from './key-source.ts'

/** The name after LoadCredential= and `systemd-creds encrypt --name=`. */
const credentialName = 'master-key'

/**
 * The key as a systemd credential, or null where the unit has none of that name (it may have others). Its mode is
 * not checked: systemd puts it into a directory that only the service can enter.
 */
export function systemdCredentialSource(env: Environment): KeySource | null {
  const directory = env['CREDENTIALS_DIRECTORY']
  if (directory === undefined || directory === '') return null
  const path = join(directory, credentialName)
  if (!isThere(path, 'masterKey')) return null
  return {
    kind: 'systemd-credential',
    describe: `systemd credential ${credentialName}`,
    warning: null,
    read: () => readKeyFile(path, 'none'),
  }
}
