import { StartError } from '../errors.ts'

/**
 * Refuses (exit 78) what the contract names and this version cannot do yet: a start without a master key, and keys
 * from AWS KMS or Vault. Starting as if it had not been asked for would run a daemon other than the one configured.
 * `source` is the key source that would be used, where it is known.
 */
export function refuseLaterWork(
  config: { readonly sealed: boolean; readonly key: { readonly onFailure: 'exit' | 'seal' } },
  source: 'kms' | 'vault' | null = null,
): void {
  const elsewhere = 'give the key by --master-key-file, a systemd credential or MASTER_ENCRYPTION_KEY'
  if (config.sealed) {
    throw new StartError(
      'config',
      '--sealed is not supported by this version',
      `start without it and ${elsewhere}`,
    )
  }
  if (config.key.onFailure === 'seal') {
    throw new StartError(
      'config',
      'key.on_failure = "seal" is not supported by this version',
      'set it to "exit" and let the service manager restart purserd',
    )
  }
  if (source === 'kms') {
    throw new StartError(
      'config',
      'ENCRYPTED_MASTER_KEY (AWS KMS) is not supported by this version',
      `unset it and ${elsewhere}`,
    )
  }
  if (source === 'vault') {
    throw new StartError(
      'config',
      'VAULT_ADDR (Vault) is not supported by this version',
      `unset it and ${elsewhere}`,
    )
  }
}
