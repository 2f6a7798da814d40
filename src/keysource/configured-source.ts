import type { Config, Environment } from '../config.ts'
import { StartError } from '../errors.ts'
import type { EnvironmentKey } from './environment.ts'
import type { KeySource } from './key-source.ts'
import type { MasterKeyBytes } from './parse-key.ts'
import { selectKeySource } from './select.ts'

/**
 * The configured key source over the life of a daemon: read at the start, and again when a sealed daemon is to be
 * unsealed from it. What is no more than missing (a key file yet to be put in place) is looked for anew at each read.
 */
export class ConfiguredSource {
  readonly #config: Config
  readonly #env: Environment
  #environmentKey: EnvironmentKey | null
  #source: KeySource | null = null
  #missing: StartError | null = null
  #wasRead = false

  /** Selects the source, reads nothing. Throws StartError 78 for one that cannot be right; a missing key is the read's to tell. */
  constructor(config: Config, env: Environment, environmentKey: EnvironmentKey | null) {
    this.#config = config
    this.#env = env
    this.#environmentKey = environmentKey
    this.#select()
  }

  /** Names the place, for status and log; null where there is none. */
  get describe(): string | null {
    if (this.#source === null || (this.#source.kind === 'generated' && !this.#wasRead)) return null
    return this.#source.describe
  }

  /** The key file, where it is one that a rotation may replace. */
  get file(): string | undefined {
    return this.#source?.file
  }

  /** As KeySource; of the last read. */
  get warning(): string | null {
    return this.#source?.warning ?? null
  }

  /** Why it cannot be read again, or null where it can be tried. */
  get unreadable(): string | null {
    switch (this.#source?.kind) {
      case 'environment':
        return 'the key in MASTER_ENCRYPTION_KEY is read once, at the start'
      // A read would make a key, which is what a start without a seal does.
      case 'generated':
      case undefined:
        this.#select()
        return this.#source === null || this.#source.kind === 'generated'
          ? 'no master key source is configured'
          : null
      default:
        return null
    }
  }

  /** Reads the key as a start does, which may generate it. Throws as KeySource.read does. */
  read(signal?: AbortSignal): Promise<MasterKeyBytes> {
    if (this.#source === null) this.#select()
    if (this.#source === null) return Promise.reject(this.#missing)
    this.#wasRead = true
    return this.#source.read(signal)
  }

  /** Reads it for an unseal: generates nothing. Throws as KeySource.read does, and StartError 77 where `unreadable`. */
  readAgain(signal?: AbortSignal): Promise<MasterKeyBytes> {
    const { unreadable } = this
    if (unreadable === null) return this.read(signal)
    return Promise.reject(
      new StartError('masterKey', unreadable, 'give the key by `purser unseal`, or start the daemon again'),
    )
  }

  /** Wipes a key taken from the environment that is not going to be read. */
  forget(): void {
    if (this.#source?.kind === 'environment') this.#environmentKey?.wipe()
  }

  #select(): void {
    const environmentKey = this.#environmentKey
    try {
      this.#source = selectKeySource(this.#config, this.#env, this.#environmentKey)
      this.#missing = null
      if (this.#source.kind !== 'environment') this.#environmentKey = null
    } catch (error) {
      environmentKey?.wipe()
      if (!(error instanceof StartError) || error.exitCode !== 77) throw error
      this.#missing = error
      this.#source = null
    }
  }
}
