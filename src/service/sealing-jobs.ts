import { randomFillSync, randomUUID } from 'node:crypto'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import { invalidParams, PurserError, StartError } from '../errors.ts'
import type { ConfiguredSource } from '../keysource/configured-source.ts'
import { putNewKey, replacementProblem } from '../keysource/key-file-replacement.ts'
import { masterKeyBytes, parseMasterKey } from '../keysource/parse-key.ts'
import type { Logger } from '../log.ts'
import { offHeap, type SecretBytes } from '../secret.ts'
import type { SealingJobKind, SealingJobRow, StoredMasterKey, Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import { isKeyOfEpoch, openKeyring, rotateKeyMaterial } from '../vault/keyring.ts'
import type { Vault } from '../vault/vault.ts'
import type { Act, Commits, Subject, WorkUnit } from './act.ts'
import { audited, ownEntry, submitAudited, successEntry } from './act.ts'
import { KeyPlacement, whichKey } from './key-placement.ts'
import type { KeyFrom, SealingHook } from './sealing.ts'
import { SealingWalk } from './sealing-walk.ts'

/** Ids looked at in one transaction for an envelope of an old epoch: a few milliseconds. */
const scanSpan = 5000
/** A job that something keeps from going on tries again after the first of these, then twice as long, at most the second. */
const retryMs = { first: 500, most: 60_000 } as const

export type MasterStatus = {
  epoch: number
  keyId: string
  oldKeyRetired: boolean
  job: {
    kind: SealingJobKind
    state: 'running' | 'paused' | 'done' | 'failed'
    done: number
    total: number
  } | null
}

type Parts = {
  readonly commits: Commits
  readonly vault: () => Vault
  readonly source: Pick<ConfiguredSource, 'file' | 'describe' | 'readAgain'>
  /** Whether the daemon runs with --sealed: then an operator's key counts as the source's. */
  readonly startsSealed: boolean
  /** Moves the log of the store into it and empties it. */
  readonly truncateLog: () => Promise<void>
  readonly diskLow: () => boolean
  readonly log: Logger
  readonly now: () => number
}

/**
 * Jobs that seal every credential anew while requests are served: the rotation of the master key, and a reseal at other
 * Argon2 costs. One at a time; the store knows how far it has come, so that it goes on after a kill or a seal at any
 * point. Work that belongs to a vault runs one piece after the other, from `resume` to `pause`.
 */
export class SealingJobs implements SealingHook {
  readonly #parts: Parts
  readonly #placement: KeyPlacement
  #vault: Vault | null = null
  #pausing = new AbortController()
  #work: Promise<void> = Promise.resolve()
  #walk: SealingWalk | null = null
  #starting = false

  constructor(parts: Parts) {
    this.#parts = parts
    this.#placement = new KeyPlacement(parts)
  }

  /**
   * Goes on with what is to be done under the keys of `vault`: at a start, after an unseal, and when a key was given to a
   * daemon that is unsealed. The key of `epoch` was handed out by `keyFrom`: the old key of a rotation retires once the
   * source itself has the new one. Returns at once; what fails meanwhile is tried again and told in the log.
   */
  resume(vault: Vault, keyFrom: KeyFrom, epoch: number): void {
    if (vault !== this.#vault) {
      this.#vault = vault
      this.#pausing = new AbortController()
    }
    this.#enqueue(async () => {
      if (keyFrom === 'source' || this.#parts.startsSealed) await this.#noteSource(epoch)
    })
    this.#enqueue((vault, signal) => this.#continue(vault, signal))
  }

  /**
   * Begins nothing more, from this call on; resolves when nothing is under way. What waits for a derivation ends as soon
   * as the vault is closed.
   */
  pause(): Promise<void> {
    this.#vault = null
    this.#pausing.abort()
    return this.#work
  }

  /** Credentials that a job under way has yet to seal anew. */
  get left(): number {
    if (this.#walk === null) return 0
    return this.#walk.left
  }

  async status(act: Act): Promise<MasterStatus> {
    const { keys, job } = await this.#parts.commits.submit(function* () {
      return { keys: yield* perform('masterKeys'), job: yield* perform('sealingJobGet') }
    }, act)
    const { epoch, keyId } = keys.at(-1)!
    return { epoch, keyId, oldKeyRetired: keys.length === 1, job: job === undefined ? null : this.#view(job) }
  }

  #view({ kind, state, done, total }: SealingJobRow): NonNullable<MasterStatus['job']> {
    if (state !== 'running') return { kind, state, done, total }
    if (this.#vault === null) return { kind, state: 'paused', done, total }
    return { kind, state, done: Math.max(done, this.#walk?.settled.done ?? 0), total }
  }

  /**
   * Begins a rotation to the key given, or, where the master key comes from a file that purser may replace, to one of
   * its own making. The new key opens the store from the answer on; so does the old one until it retires. InvalidParams,
   * Conflict while another rotation or job is not over.
   */
  async rotate(act: Act, newMasterKey: SecretBytes | undefined): Promise<{ jobId: string }> {
    const file = newMasterKey === undefined ? this.#ownKeyFile() : null
    const subject: Subject = { action: 'master_rotated', userId: null, credentialId: null }
    return await audited(this.#parts.commits, act, subject, async () => {
      const vault = this.#parts.vault()
      const present = await submitAudited(this.#parts.commits, act, subject, refuseOverlap)
      if (this.#starting) throw jobConflict('another rotation is beginning')
      const newKey = newMasterKey === undefined ? randomKey() : parseKey(newMasterKey)
      this.#starting = true
      try {
        refusePresentKey(vault, present, newKey)
        if (file !== null) await this.#prepareFile(vault, present, file, newKey)
        return await this.#begin(act, subject, vault, { present, newKey, file })
      } finally {
        newKey.fill(0)
        this.#starting = false
      }
    })
  }

  /** Begins to seal every credential anew under the present key, at the configured cost. Conflict while a job runs. */
  async reseal(act: Act): Promise<{ jobId: string }> {
    const subject: Subject = { action: 'master_resealed', userId: null, credentialId: null }
    return await audited(this.#parts.commits, act, subject, async () => {
      this.#parts.vault()
      const jobId = randomUUID()
      const { now } = this.#parts
      await submitAudited(this.#parts.commits, act, subject, function* (unit): Transaction<void> {
        yield* refuseRunning()
        const { credentialCount: total } = (yield* perform('storeGet'))!
        yield* perform('sealingJobBegin', { jobId, kind: 'reseal', total }, now())
        unit.audit(successEntry(act, subject, { stage: 'started', jobId }))
      })
      this.#enqueue((vault, signal) => this.#continue(vault, signal))
      return { jobId }
    })
  }

  #ownKeyFile(): string {
    const { file, describe } = this.#parts.source
    if (file !== undefined) return file
    throw invalidParams(
      'newMasterKey',
      `must be given: the master key comes from ${describe}, which purser cannot change`,
    )
  }

  /** Everything that can be known before something changes; then the new key beside the file. */
  async #prepareFile(vault: Vault, present: StoredMasterKey, file: string, newKey: Buffer): Promise<void> {
    const refuse = (problem: string) =>
      invalidParams('newMasterKey', `must be given: ${problem}, so the key file cannot be replaced`)
    const problem = replacementProblem(file, present.epoch)
    if (problem !== null) throw refuse(problem)
    const inFile = await this.#parts.source.readAgain().catch((error: unknown) => {
      if (error instanceof StartError) throw refuse(error.message)
      throw error
    })
    const [isPresent] = whichKey(vault, [present], inFile)
    if (!isPresent) throw refuse(`${file} does not hold the present key`)
    try {
      await putNewKey(file, newKey)
    } catch (error) {
      await this.#placement.cleanUp(file, present.epoch)
      throw refuse(`a new key cannot be put beside it (${(error as NodeJS.ErrnoException).code})`)
    }
  }

  async #begin(
    act: Act,
    subject: Subject,
    vault: Vault,
    { present, newKey, file }: { present: StoredMasterKey; newKey: Buffer; file: string | null },
  ): Promise<{ jobId: string }> {
    const jobId = randomUUID()
    const { storeId } = vault.keyring
    const { now } = this.#parts
    let epoch: number
    try {
      const made = rotateKeyMaterial(storeId, present, vault.keyring.masterKey(present.epoch)!, newKey)
      const { keyId } = made.row
      epoch = made.row.epoch
      await submitAudited(this.#parts.commits, act, subject, function* (unit): Transaction<void> {
        const still = yield* refuseOverlap()
        if (still.epoch !== present.epoch) throw jobConflict('another rotation was faster')
        const { credentialCount: total } = (yield* perform('storeGet'))!
        yield* perform('masterKeyInsert', { ...made.row, replacesFile: file }, now())
        yield* perform('masterKeyWrapOther', present.epoch, made.wrappedNewKey)
        yield* perform('sealingJobBegin', { jobId, kind: 'rotate', total }, now())
        const from = file === null ? 'caller' : 'purser'
        unit.audit(successEntry(act, subject, { stage: 'started', jobId, epoch, keyId, newKeyFrom: from }))
      })
    } catch (error) {
      if (file !== null) await this.#placement.cleanUp(file, present.epoch)
      throw error
    }
    // Sealed meanwhile, it goes on at the next unseal, with either key.
    if (!vault.keyring.closed) {
      vault.keyring.add(epoch, newKey)
      // A key that is not in its file yet may have to be taken back: nothing is sealed under it.
      if (file === null) vault.keyring.sealUnder(epoch)
    }
    this.#enqueue((current, signal) => this.#continue(current, signal))
    return { jobId }
  }

  /** Runs `piece` behind what is under way, unless a pause comes first. Never rejects; what fails is tried again. */
  #enqueue(piece: (vault: Vault, signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#pausing
    const vault = this.#vault
    if (vault === null) return
    this.#work = this.#work.then(async () => {
      for (let waitMs: number = retryMs.first; !signal.aborted; waitMs = Math.min(2 * waitMs, retryMs.most)) {
        try {
          return await piece(vault, signal)
        } catch (error) {
          // The keys are gone: a seal, whose unseal resumes.
          if (signal.aborted || vault.keyring.closed) return
          this.#parts.log.warn(
            { reason: error instanceof Error ? error.message : String(error), retryMs: waitMs },
            'a sealing job is held up',
          )
          await sleep(waitMs, undefined, { signal }).catch(() => undefined)
        }
      }
    })
  }

  /** Takes the job from wherever it stands to its end, and the old key into retirement where all is as it has to be. */
  async #continue(vault: Vault, signal: AbortSignal): Promise<void> {
    await this.#placement.finish(vault)
    const { commits } = this.#parts
    const job = await commits.submit(() => perform('sealingJobGet'))
    if (job?.state === 'running') {
      await this.#run(vault, job, signal)
      await this.#askSource(vault, signal)
    }
    await this.#retire(vault, signal)
  }

  async #run(vault: Vault, job: SealingJobRow, signal: AbortSignal): Promise<void> {
    const { commits, diskLow, log, now } = this.#parts
    // Ids given out later are sealed under the key and at the cost of now.
    const { nextCredentialId } = (await commits.submit(() => perform('storeGet')))!
    const throughId = nextCredentialId - 1
    const walk = new SealingWalk({ commits, vault, job, throughId, diskLow, now, log })
    this.#walk = walk
    try {
      await walk.run(signal)
      await commits.submit(function* (unit): Transaction<void> {
        // A seal may come in the same commit, and what a sealed daemon does not do must not stand behind it.
        signal.throwIfAborted()
        yield* endJob(unit, job, walk, now())
      })
      const { done, failed } = walk.settled
      const told = { jobId: job.jobId, kind: job.kind, done, failed }
      if (failed === 0) log.info(told, 'every credential is sealed anew')
      else log.error(told, 'some credentials could not be sealed anew: replace them, then reseal')
    } finally {
      this.#walk = null
    }
  }

  /** At the end of a job the source is asked which key it hands out by now. */
  async #askSource(vault: Vault, signal: AbortSignal): Promise<void> {
    const { commits, source, startsSealed, log } = this.#parts
    const keys = await commits.submit(() => perform('masterKeys'))
    if (startsSealed || keys.length < 2) return
    let key: Buffer
    try {
      key = await source.readAgain(signal)
    } catch (error) {
      signal.throwIfAborted()
      log.info({ reason: String((error as Error).message) }, 'the key source was not read again')
      return
    }
    const given = whichKey(vault, keys, key).indexOf(true)
    await this.#noteSource(keys[given]?.epoch ?? null)
  }

  /** Keeps whether the source hands out the newest key: its last word counts, or the next start would fail. */
  async #noteSource(epoch: number | null): Promise<void> {
    await this.#parts.commits.submit(function* (): Transaction<void> {
      const newest = (yield* perform('masterKeys')).at(-1)!
      const has = epoch === newest.epoch
      if ((newest.sourceHasIt === 1) !== has) yield* perform('masterKeySourceHasIt', newest.epoch, has)
    })
  }

  /** The old key goes when nothing is sealed under it any more and the source has handed out the new one. */
  async #retire(vault: Vault, signal: AbortSignal): Promise<void> {
    const { commits, log, truncateLog } = this.#parts
    const keys = await commits.submit(() => perform('masterKeys'))
    const [older, newer] = keys
    if (older === undefined || newer === undefined) {
      // After a kill, or a failure, between retirement and this, the log still holds the wraps that were deleted; and
      // the keyring, where it is the same, the key.
      if (older === undefined || older.epoch === 1) return
      await truncateLog()
      await vault.retire(older.epoch - 1)
      return
    }
    const job = await commits.submit(() => perform('sealingJobGet'))
    if (job?.state === 'running' || newer.replacesFile !== null || newer.sourceHasIt === 0) return
    if (await this.#isLeft(newer.epoch, signal)) return
    // Once more before the point of no return: the new key opens the store without any help of the old one.
    const { storeId } = vault.keyring
    openKeyring(vault.keyring.masterKey(newer.epoch)!, { storeId, rows: [newer] }).close()
    await commits.submit(function* (unit): Transaction<void> {
      signal.throwIfAborted()
      yield* perform('masterKeyDelete', older.epoch)
      yield* perform('masterKeyWrapOther', newer.epoch, null)
      const details = { stage: 'old_key_retired', epoch: older.epoch, keyId: older.keyId }
      unit.audit(ownEntry('master_rotated', 'ok', details))
    })
    await truncateLog()
    await vault.retire(older.epoch)
    log.info({ epoch: older.epoch, keyId: older.keyId }, 'the old master key is retired')
  }

  /** Whether an envelope is left that the key of `epoch` does not open. */
  async #isLeft(epoch: number, signal: AbortSignal): Promise<boolean> {
    const { commits } = this.#parts
    const { nextCredentialId } = (await commits.submit(() => perform('storeGet')))!
    for (let after = 0; after < nextCredentialId; after += scanSpan) {
      const from = after
      const found = await commits.submit(() =>
        perform('credentialOfOtherEpoch', from, from + scanSpan, epoch),
      )
      if (found !== undefined) return true
      signal.throwIfAborted()
      await nextTurn()
    }
    return false
  }
}

/** The key that opens the store; Conflict where there are two, or where a job runs. */
function* refuseOverlap(): Transaction<StoredMasterKey> {
  const keys = yield* perform('masterKeys')
  if (keys.length > 1) throw jobConflict('the old key of the last rotation is not retired')
  yield* refuseRunning()
  return keys[0]!
}

function* refuseRunning(): Transaction<void> {
  const job = yield* perform('sealingJobGet')
  if (job?.state === 'running') throw jobConflict('credentials are being sealed anew')
}

function jobConflict(message: string): PurserError {
  return new PurserError(
    'Conflict',
    { resource: 'rotation', field: null },
    { message, hint: 'master.status tells how far it is, docs/keys.md what a rotation still waits for' },
  )
}

function* endJob(unit: WorkUnit, job: SealingJobRow, walk: SealingWalk, atMs: number): Transaction<void> {
  const { done, failed } = walk.settled
  yield* walk.storeProgress()
  yield* perform('sealingJobEnd', failed === 0 ? 'done' : 'failed', atMs)
  const details = { stage: failed === 0 ? 'done' : 'failed', jobId: job.jobId, resealed: done, failed }
  const action = job.kind === 'rotate' ? 'master_rotated' : 'master_resealed'
  unit.audit(ownEntry(action, failed === 0 ? 'ok' : 'error', details))
}

function randomKey(): Buffer {
  return randomFillSync(offHeap(masterKeyBytes))
}

function parseKey({ bytes }: SecretBytes): Buffer {
  const key = parseMasterKey(bytes)
  if (key === null) throw invalidParams('newMasterKey', 'must be 32 bytes as base64, base64url or hex')
  return key
}

function refusePresentKey(vault: Vault, { epoch }: StoredMasterKey, newKey: Buffer): void {
  if (isKeyOfEpoch(vault.keyring, epoch, newKey)) throw invalidParams('newMasterKey', 'is the present key')
}
