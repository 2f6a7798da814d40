import type { MasterKeyBytes } from './parse-key.ts'

/** Where the daemon's master key comes from. One is selected at the start and stays. */
export type KeySource = {
  readonly kind:
    | 'file'
    | 'systemd-credential'
    | 'environment'
    | 'aws-kms'
    | 'vault'
    | 'data-directory'
    | 'generated'
  /** For status and log: names the place, holds no secret. */
  readonly describe: string
  /** The key file, where it is one that a rotation may replace. */
  readonly file?: string
  /** What the operator should read in the log after a read: how to keep the key better; null where nothing is. */
  readonly warning: string | null
  /**
   * Reads the key into memory off the V8 heap, which the caller wipes. Every read asks the source anew; `environment`
   * can be read once only. Throws StartError: exit 77 where the source fails, which a later read may not; exit 78
   * where what is configured or given is no key, which stays so until somebody changes it. An abort of `signal` ends
   * a read that waits for another host at once, with the signal's reason.
   */
  readonly read: (signal?: AbortSignal) => Promise<MasterKeyBytes>
}
