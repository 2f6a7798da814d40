import { setImmediate as nextTurn } from 'node:timers/promises'
import type { AuditEntry } from '../audit/entry.ts'
import type { LogState } from '../audit/writer.ts'
import { collectGarbage } from '../collect-garbage.ts'
import { PurserError } from '../errors.ts'
import type { Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { DerivationQueue } from '../vault/derivation-queue.ts'
import type { KdfParams } from '../vault/kdf.ts'
import type { Keyring } from '../vault/keyring.ts'
import type { OpenedCache } from '../vault/opened-cache.ts'
import { Vault } from '../vault/vault.ts'
import type { Act, Commits, Subject, WorkUnit } from './act.ts'
import { submitAudited, successEntry } from './act.ts'
import { time } from './credentials/metadata.ts'

/** Where a master key came from: the configured source, or whoever called `system.unseal`. */
export type KeyFrom = 'source' | 'operator'

/** What runs only while there is a key. */
export type SealingHook = {
  /**
   * There is a key: at the start, after an unseal, and once more for each key that turned out to open a store that is
   * unsealed already. `epoch` is that of the key that was given. Must not throw.
   */
  resume(vault: Vault, keyFrom: KeyFrom, epoch: number): void
  /** The key is about to be wiped, which waits for the promise; the vault refuses from now on. Must not throw. */
  pause(): void | Promise<void>
}

export type SealingParts = {
  readonly commits: Commits
  readonly queue: DerivationQueue
  readonly kdf: KdfParams
  readonly cache: OpenedCache
  readonly now: () => number
  /** Whether there is a store: without one there is nothing to open nor to write to. */
  readonly hasStore: () => boolean
}

/** What a daemon without a store answers; everything else is Sealed (contract, section 5). */
const worksWithoutStore = /^(session\..*|system\.(ping|health|status|metrics|unseal))$/

/**
 * Whether there is a master key, and the one owner of everything made from it. A seal takes effect at its place in the
 * order of execution (refused are all transactions behind it, whatever becomes of its own), and is answered when the
 * keys and all that was opened with them are wiped; an unseal when it is on disk.
 */
export class Sealing implements LogState {
  readonly #parts: SealingParts
  readonly #hooks: SealingHook[] = []
  #vault: Vault | null = null
  /** Makes the MACs of the commit that unseals, and does nothing else until that is on disk. */
  #opening: Keyring | null = null
  #sealed = true
  /** Whether a key was in memory since the last time that all was wiped. */
  #hadKey = false
  /** What has to stand in the log before anything else, for that has no MAC: a seal that could not be written. */
  #owed: AuditEntry | null = null
  /** Aborted by a seal and by a stop: ends unseals and reads of the source. */
  #cancel = new AbortController()
  #wiping: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(parts: SealingParts) {
    this.#parts = parts
  }

  /** Registers what runs only while there is a key. It hears of what comes after: register it before the start's `resumed`. */
  register(hook: SealingHook): void {
    this.#hooks.push(hook)
  }

  get sealed(): boolean {
    return this.#sealed
  }

  /** The vault to use at once and not to keep. Throws Sealed. */
  vault(): Vault {
    if (this.#sealed || this.#vault === null) throw new PurserError('Sealed')
    return this.#vault
  }

  /** The MAC of an audit entry's hash, or null while there is no key in memory. */
  auditMac(hash: Buffer): Buffer | null {
    const keyring = this.#opening ?? this.#vault?.keyring
    return keyring === undefined || keyring.closed ? null : keyring.auditMac(hash)
  }

  /** Aborts, with what is to be answered as its reason, when purser is sealed or stops. */
  get cancelled(): AbortSignal {
    return this.#cancel.signal
  }

  /** Throws Sealed where this method is refused as things stand. */
  permit(method: { readonly name: string; readonly whileSealed: 'works' | 'refused' }): void {
    if (!this.#sealed) return
    const refused = this.hasStore() ? method.whileSealed === 'refused' : !worksWithoutStore.test(method.name)
    if (refused) throw new PurserError('Sealed')
  }

  hasStore(): boolean {
    return this.#parts.hasStore()
  }

  owed(): AuditEntry | null {
    return this.#owed
  }

  paid(entry: AuditEntry): void {
    if (this.#owed === entry) this.#owed = null
  }

  /** `entry` is to stand in the log before whatever is written next. */
  owe(entry: AuditEntry): void {
    this.#owed = entry
  }

  /** The daemon starts with this keyring. Call it before anything is written, `resumed` once the start is told of. */
  start(keyring: Keyring): void {
    this.#vault = this.#newVault(keyring)
    this.#hadKey = true
    this.#sealed = false
  }

  /** Tells the hooks of a key that opens the store. */
  resumed(keyFrom: KeyFrom, epoch: number): void {
    const vault = this.#vault
    if (this.#sealed || vault === null) return
    for (const hook of this.#hooks) hook.resume(vault, keyFrom, epoch)
  }

  /**
   * Takes the key away until an unseal, over restarts. In force even where it could not be written, which is
   * StorageUnavailable then. Ok where purser is sealed already.
   */
  async seal(act: Act): Promise<{ sealed: true; since: string }> {
    const subject: Subject = { action: 'system_sealed', userId: null, credentialId: null }
    const nowMs = this.#parts.now()
    const bind = () => this.#bind()
    const sealedBefore = this.#sealed
    let unwritten: unknown = null
    let sinceMs = nowMs
    let pauses: Promise<unknown> = Promise.resolve()
    try {
      sinceMs = await submitAudited(this.#parts.commits, act, subject, function* (unit): Transaction<number> {
        // From here on, not from the answer on: if this cannot be written, others of the same turn may be.
        pauses = bind()
        const since = (yield* perform('storeGet'))?.sealedAtMs ?? null
        if (since === null) yield* perform('storeSeal', nowMs)
        unit.audit(successEntry(act, subject, { stored: true, again: sealedBefore }))
        return since ?? nowMs
      })
    } catch (error) {
      if (!(error instanceof PurserError) || error.type !== 'StorageUnavailable') throw error
      pauses = Promise.all([pauses, bind()])
      unwritten = error
      // The key that would have vouched for what is written from now on is gone: the log must begin with why.
      this.owe(successEntry(act, subject, { stored: false, again: sealedBefore }))
    }
    await this.#wipe(pauses)
    act.bindings.push({ on: 'everything', grants: true, error: new PurserError('Sealed') })
    if (unwritten !== null) throw unwritten
    return { sealed: true, since: time(sinceMs) }
  }

  /**
   * Commits what `tell` writes, together with the end of a stored seal and with a MAC of `keyring`, which is the daemon's
   * own from then on and closed where it fails. Rejects with the reason of `signal`, whose abort undoes it up to its end.
   */
  async open(
    keyring: Keyring,
    signal: AbortSignal,
    act: Act | null,
    subject: Subject,
    tell: (unit: WorkUnit) => void,
  ): Promise<void> {
    try {
      // What a seal before this wipes is not to be met by what this one opens.
      await this.#wiping
      const opening = () => {
        signal.throwIfAborted()
        this.#opening = keyring
        this.#hadKey = true
      }
      const work = function* (unit: WorkUnit): Transaction<void> {
        opening()
        yield* perform('storeSeal', null)
        tell(unit)
      }
      const { commits } = this.#parts
      await (act === null ? commits.submit(work) : submitAudited(commits, act, subject, work))
      signal.throwIfAborted()
    } catch (error) {
      keyring.close()
      if (this.#opening === keyring) this.#opening = null
      collectGarbage()
      throw error
    }
    this.#opening = null
    this.#vault = this.#newVault(keyring)
    this.#sealed = false
  }

  /** Ends unseals and reads of the source, for the daemon stops. */
  stop(): void {
    this.#stopped = true
    this.#cancel.abort(new PurserError('Overloaded', { retryAfterMs: 1000 }, { message: 'stopping' }))
  }

  /** Wipes the keys; resolves when what uses them has ended. */
  async close(): Promise<void> {
    await this.#wiping
    this.#opening?.close()
    await this.#vault?.close()
  }

  /** Seals in memory. Answers when what runs only with a key has paused. */
  #bind(): Promise<unknown> {
    if (!this.#stopped) {
      this.#cancel.abort(new PurserError('Sealed'))
      this.#cancel = new AbortController()
    }
    const wasSealed = this.#sealed
    this.#sealed = true
    return wasSealed ? Promise.resolve() : Promise.allSettled(this.#hooks.map(async (hook) => hook.pause()))
  }

  #wipe(pauses: Promise<unknown>): Promise<void> {
    if (!this.#hadKey) return this.#wiping
    this.#hadKey = false
    const vault = this.#vault
    this.#vault = null
    this.#wiping = Promise.all([this.#wiping, this.#wipeAll(vault, pauses)]).then(() => undefined)
    return this.#wiping
  }

  async #wipeAll(vault: Vault | null, pauses: Promise<unknown>): Promise<void> {
    const { cache, commits } = this.#parts
    await Promise.all([vault?.close(), pauses])
    // Who waits for a commit with a secret in its hands is refused there, and wipes it, before this one has its turn.
    await commits.submit(function* (): Transaction<void> {}).catch(() => undefined)
    await nextTurn()
    // Only now: what was answered before the seal has put what it opened there by now.
    cache.clear()
    collectGarbage()
  }

  #newVault(keyring: Keyring): Vault {
    return new Vault({ keyring, queue: this.#parts.queue, kdf: this.#parts.kdf })
  }
}
