import { StartError } from '../errors.ts'

/**
 * Refuses (exit 78) what the contract names and this version cannot do yet: a start without a master key. Starting as
 * if it had not been asked for would run a daemon other than the one configured.
 */
export function refuseLaterWork(config: {
  readonly sealed: boolean
  readonly key: { readonly onFailure: 'exit' | 'seal' }
}): void {
  if (config.sealed) {
    throw new StartError(
      'config',
      '--sealed is not supported by this version',
      'start without it and give the key by one of its sources (docs/keys.md)',
    )
  }
  if (config.key.onFailure === 'seal') {
    throw new StartError(
      'config',
      'key.on_failure = "seal" is not supported by this version',
      'set it to "exit" and let the service manager restart purserd',
    )
  }
}
