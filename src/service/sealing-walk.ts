import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { PurserError } from '../errors.ts'
import type { Logger } from '../log.ts'
import type { SealedCredential, SealingJobRow, Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import { parseEnvelope } from '../vault/envelope.ts'
import type { Vault } from '../vault/vault.ts'
import type { Commits } from './act.ts'

/** Envelopes read in one transaction: about 40 KB, a fraction of a millisecond. */
const pageRows = 64
/** Each has one derivation at a time: one runs on every core, and one waits for it while another's commit is synced. */
const rowsAtOnce = 2 * availableParallelism()
/** Settled credentials behind one that is not, at most. */
const slotsMax = 4096
/** How long a job waits for disk space before it looks again. */
const lowDiskMs = 1000
/** Damaged envelopes named in the log by one walk; the count says how many there were. */
const namedMax = 20

type WalkParts = {
  readonly commits: Commits
  readonly vault: Vault
  readonly job: SealingJobRow
  /** The highest id that may have been sealed before the job began. */
  readonly throughId: number
  readonly diskLow: () => boolean
  readonly now: () => number
  readonly log: Logger
}

/** A credential on its way; null while it is not settled. */
type Slot = { readonly credentialId: number; outcome: 'done' | 'failed' | null }

/**
 * Seals one credential after the other anew, from where the job has come to. Each is a commit of its own, which happens
 * only if the row still holds the envelope that was read, and which keeps how far all before it have come: a kill at any
 * point costs a few derivations. Nothing of the event loop is held, and derivations are left to requests.
 */
export class SealingWalk {
  readonly #parts: WalkParts
  /** In the order of ids, from the first that is not settled. */
  readonly #slots: Slot[] = []
  readonly #inFlight = new Set<Promise<void>>()
  #stored: { afterCredentialId: number; done: number; failed: number }
  #settled = { done: 0, failed: 0 }
  #failure: { readonly error: unknown } | null = null
  #named = 0

  constructor(parts: WalkParts) {
    this.#parts = parts
    const { afterCredentialId, done, failed } = parts.job
    this.#stored = { afterCredentialId, done, failed }
    this.#settled = { done, failed }
  }

  /** Credentials that are sealed anew, or were by somebody else meanwhile; and those that do not open. */
  get settled(): { readonly done: number; readonly failed: number } {
    const { total } = this.#parts.job
    // What was stored since the job began counts for nothing.
    return { done: Math.min(this.#settled.done, total), failed: this.#settled.failed }
  }

  /** Credentials that are yet to be sealed anew. */
  get left(): number {
    return this.#parts.job.total - this.settled.done
  }

  /**
   * Walks to the end. Rejects with the reason of `signal`, Sealed, or whatever else kept a row from being sealed, when
   * nothing is under way any more; another walk goes on from there.
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      let after = this.#stored.afterCredentialId
      for (;;) {
        const page = await this.#readPage(after)
        for (const row of page) await this.#begin(row, signal)
        const last = page.at(-1)
        if (last === undefined) break
        after = last.credentialId
      }
      await Promise.all(this.#inFlight)
      if (this.#failure !== null) throw this.#failure.error
    } finally {
      await Promise.all(this.#inFlight)
    }
  }

  /** What the store is to know of the progress; runs inside a transaction. */
  *storeProgress(): Transaction<void> {
    const { afterCredentialId, done, failed } = this.#stored
    yield* perform('sealingJobProgress', {
      afterCredentialId,
      done: Math.min(done, this.#parts.job.total),
      failed,
    })
  }

  #readPage(after: number): Promise<SealedCredential[]> {
    const { commits, throughId } = this.#parts
    return commits.submit(() => perform('credentialsSealed', after, throughId, pageRows))
  }

  async #begin(row: SealedCredential, signal: AbortSignal): Promise<void> {
    const slot: Slot = { credentialId: row.credentialId, outcome: null }
    this.#slots.push(slot)
    if (this.#isSealedAnew(row)) return this.#settle(slot, 'done')
    while (this.#inFlight.size >= rowsAtOnce || (this.#slots.length > slotsMax && this.#inFlight.size > 0))
      await Promise.race(this.#inFlight)
    while (this.#parts.diskLow()) await sleep(lowDiskMs, undefined, { signal })
    signal.throwIfAborted()
    if (this.#failure !== null) throw this.#failure.error
    const work = this.#seal(row, slot)
      .then(
        (outcome) => this.#settle(slot, outcome),
        (error: unknown) => {
          this.#failure ??= { error }
        },
      )
      .finally(() => this.#inFlight.delete(work))
    this.#inFlight.add(work)
  }

  async #seal(first: SealedCredential, slot: Slot): Promise<'done' | 'failed'> {
    const { commits, vault } = this.#parts
    for (let row = first; ; ) {
      const envelope = await vault.renew(row.envelope, row).catch((error: unknown) => {
        if (error instanceof PurserError && error.type === 'DecryptionFailed') return null
        throw error
      })
      const renewed =
        envelope === null ? null : { envelope, epoch: parseEnvelope(envelope, row.credentialId).epoch }
      const kept = await commits.submit(() => this.#keep(row, renewed, slot))
      if (kept !== 'overtaken') return kept
      const now = await commits.submit(() => perform('credentialSealed', row.credentialId))
      // Whoever overtook a reseal sealed it at the configured cost; a rotation looks at the epoch.
      if (now === undefined || this.#parts.job.kind === 'reseal' || this.#isSealedAnew(now)) return 'done'
      row = now
    }
  }

  /** Puts the new envelope into its row, or finds that one that does not open is still there. */
  *#keep(
    before: SealedCredential,
    renewed: { envelope: Buffer; epoch: number } | null,
    slot: Slot,
  ): Transaction<'done' | 'failed' | 'overtaken'> {
    const { log, now } = this.#parts
    if (renewed === null) {
      const stored = yield* perform('credentialSealed', before.credentialId)
      if (stored === undefined || !stored.envelope.equals(before.envelope)) return 'overtaken'
      if (this.#named++ < namedMax)
        log.error({ credentialId: slot.credentialId }, 'an envelope does not open: it cannot be sealed anew')
      return 'failed'
    }
    if (!(yield* perform('credentialRenew', before, { ...renewed, atMs: now() }))) return 'overtaken'
    // That of those before: this one counts from the next commit on.
    yield* this.storeProgress()
    return 'done'
  }

  #isSealedAnew({ epoch }: SealedCredential): boolean {
    return this.#parts.job.kind === 'rotate' && epoch === this.#parts.vault.keyring.epoch
  }

  #settle(slot: Slot, outcome: 'done' | 'failed'): void {
    slot.outcome = outcome
    this.#settled[outcome] += 1
    for (let first = this.#slots[0]; first?.outcome != null; first = this.#slots[0]) {
      this.#slots.shift()
      this.#stored.afterCredentialId = first.credentialId
      this.#stored[first.outcome] += 1
    }
  }
}
