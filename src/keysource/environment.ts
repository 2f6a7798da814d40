import { StartError } from '../errors.ts'
import type { SecretBytes } from '../secret.ts'
import { malformedKey } from './key-file.ts'
import type { KeySource } from './key-source.ts'
import { takeVariable } from './libc.ts'
import { parseMasterKey } from './parse-key.ts'

const variable = 'MASTER_ENCRYPTION_KEY'

/** What MASTER_ENCRYPTION_KEY held, taken out of the environment; not parsed yet. Whoever holds it wipes it. */
export type EnvironmentKey = SecretBytes

/**
 * Takes MASTER_ENCRYPTION_KEY out of the environment, or answers null where it is not set. The bytes go straight into
 * memory off the V8 heap and are overwritten where they lay, so that /proc/PID/environ shows zeros: a read through
 * `process.env` leaves a string on the heap, and listing the names of `process.env` leaves pieces of every value in
 * freed memory (both measured). Call it before anything else looks at the environment, whatever source is then used.
 */
export function takeEnvironmentKey(): EnvironmentKey | null {
  return takeVariable(variable)
}

/** The source that is a key taken from the environment. It reads once: `taken` is wiped by the read. */
export function environmentSource(taken: EnvironmentKey): KeySource {
  let unread: EnvironmentKey | null = taken
  return {
    kind: 'environment',
    describe: variable,
    warning: `the master key came in ${variable}, which every process of this uid could read until it was taken, and which whoever starts the daemon keeps: use a systemd credential (systemd-creds encrypt) or --master-key-file instead`,
    read: async () => {
      if (unread === null) {
        throw new StartError('masterKey', `${variable} is read once, at the start`, 'start the daemon again')
      }
      const key = parseMasterKey(unread.bytes)
      unread.wipe()
      unread = null
      if (key === null) throw malformedKey(variable)
      return key
    },
  }
}
