import type { MasterKeyBytes } from './parse-key.ts'

/** Where the daemon's master key comes from. One is selected at the start and stays. */
export type KeySource = {
  readonly kind: 'file' | 'systemd-credential' | 'environment' | 'data-directory' | 'generated'
  /** For status and log: names the place, holds no secret. */
  readonly describe: string
  /** What the operator should read in the log at the start: how to keep the key better; null where nothing is. */
  readonly warning: string | null
  /**
   * Reads the key into memory off the V8 heap, which the caller wipes. Throws StartError: 77 where the source fails,
   * 78 where what it gives is no key. Every read asks the source anew; `environment` can be read once only.
   */
  readonly read: () => Promise<MasterKeyBytes>
}
