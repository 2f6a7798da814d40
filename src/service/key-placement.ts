import type { ConfiguredSource } from '../keysource/configured-source.ts'
import {
  abandonReplacement,
  replaceKeyFile,
  replacementProblem,
  syncKeyFile,
} from '../keysource/key-file-replacement.ts'
import type { Logger } from '../log.ts'
import { offHeapCopy } from '../secret.ts'
import type { StoredMasterKey, Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import { isKeyOfEpoch } from '../vault/keyring.ts'
import type { Vault } from '../vault/vault.ts'
import { type Commits, ownEntry } from './act.ts'

/**
 * The step of a rotation that puts a key of purser's own making into the key file. Until it is done nothing is sealed
 * under that key: where the file cannot be replaced after all, the key is taken back and everything is as before.
 */
export class KeyPlacement {
  readonly #commits: Commits
  readonly #source: Pick<ConfiguredSource, 'file' | 'readAgain'>
  readonly #log: Logger
  readonly #now: () => number

  constructor(parts: {
    readonly commits: Commits
    readonly source: Pick<ConfiguredSource, 'file' | 'readAgain'>
    readonly log: Logger
    readonly now: () => number
  }) {
    this.#commits = parts.commits
    this.#source = parts.source
    this.#log = parts.log
    this.#now = parts.now
  }

  /** Puts the new key in its place, if there is one that waits for it, or takes it back. Rejects where neither can be. */
  async finish(vault: Vault): Promise<void> {
    const [older, newer] = await this.#commits.submit(() => perform('masterKeys'))
    if (older === undefined || newer === undefined || newer.replacesFile === null) return
    const file = newer.replacesFile
    const failure = await this.#place(vault, older, newer, file)
    if (failure !== null) return this.#takeBack(vault, older, newer, file, failure)
    await this.#commits.submit(() => perform('masterKeyPlaced', newer.epoch))
    vault.keyring.sealUnder(newer.epoch)
    this.#log.info({ file, keyId: newer.keyId }, 'the key file holds the new master key')
  }

  /** Removes what is left beside a key file that stays as it is. */
  async cleanUp(file: string, epoch: number): Promise<void> {
    await abandonReplacement(file, epoch).catch((error: NodeJS.ErrnoException) =>
      this.#log.warn({ file, code: error.code }, 'a key that was not used is left beside the key file'),
    )
  }

  /** What kept the key from its place; null where it is there, and where whoever opened the store has it already. */
  async #place(
    vault: Vault,
    older: StoredMasterKey,
    newer: StoredMasterKey,
    file: string,
  ): Promise<string | null> {
    // To take back what the store was opened with would lock out whoever did.
    const hasNewKey = vault.keyring.openedWith === newer.epoch
    const instead = (failure: string) => (hasNewKey ? null : failure)
    if (this.#source.file !== file) return instead('another key source is configured')
    const inFile = await this.#source.readAgain()
    const [isNew, isOld] = whichKey(vault, [newer, older], inFile)
    // A kill came after the rename.
    if (isNew) return this.#synced(file)
    if (!isOld) return instead('the key file holds another key')
    const problem = replacementProblem(file, older.epoch)
    if (problem !== null) return instead(problem)
    const newKey = offHeapCopy(vault.keyring.masterKey(newer.epoch)!)
    try {
      await replaceKeyFile(file, older.epoch, newKey)
    } catch (error) {
      return instead(`the key file cannot be replaced (${(error as NodeJS.ErrnoException).code})`)
    } finally {
      newKey.fill(0)
    }
    return this.#synced(file)
  }

  async #synced(file: string): Promise<null> {
    await syncKeyFile(file)
    return null
  }

  async #takeBack(
    vault: Vault,
    older: StoredMasterKey,
    newer: StoredMasterKey,
    file: string,
    failure: string,
  ): Promise<void> {
    const now = this.#now
    await this.#commits.submit(function* (unit): Transaction<void> {
      yield* perform('masterKeyDelete', newer.epoch)
      yield* perform('masterKeyWrapOther', older.epoch, null)
      yield* perform('sealingJobEnd', 'failed', now())
      const details = { stage: 'taken_back', epoch: newer.epoch, keyId: newer.keyId, reason: failure }
      unit.audit(ownEntry('master_rotated', 'error', details))
    })
    vault.keyring.retire(newer.epoch)
    await this.cleanUp(file, older.epoch)
    this.#log.error(
      { file, reason: failure },
      'the rotation was taken back, nothing was changed: rotate to a key of your own and change the source yourself',
    )
  }
}

/** For each of `keys` whether `key` is that one. Wipes `key`, also where purser was sealed meanwhile: then it throws Sealed. */
export function whichKey(vault: Vault, keys: readonly { readonly epoch: number }[], key: Buffer): boolean[] {
  try {
    return keys.map(({ epoch }) => isKeyOfEpoch(vault.keyring, epoch, key))
  } finally {
    key.fill(0)
  }
}
