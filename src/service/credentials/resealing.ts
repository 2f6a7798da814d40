import { PurserError } from '../../errors.ts'
import type { SealedCredential, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { OpenedCache } from '../../vault/opened-cache.ts'
import type { Vault } from '../../vault/vault.ts'
import type { Act, Commits, Subject } from '../act.ts'
import { audited, submitAudited, successEntry } from '../act.ts'
import { grantsCredential } from '../grant.ts'
import { credentialMissing, findState, refuseUnusable } from './metadata.ts'
import { epochOf, findSealed, isOutdated, overtakenMax } from './sealed.ts'

/** Credentials looked up in one transaction by a rotation of all. */
const rotationPage = 100

type Parts = { commits: Commits; vault: () => Vault; cache: OpenedCache; now: () => number }

/** Seals the same secrets anew. */
export class Resealing {
  readonly #commits: Commits
  readonly #vault: () => Vault
  readonly #cache: OpenedCache
  readonly #now: () => number

  constructor(parts: Parts) {
    this.#commits = parts.commits
    this.#vault = parts.vault
    this.#cache = parts.cache
    this.#now = parts.now
  }

  /** Gives envelopes a fresh salt, key and nonce; without an id all unrevoked ones of the user, each by itself. */
  async rotate(act: Act, userId: string, credentialId: number | undefined): Promise<{ rotated: number }> {
    const subject: Subject = { action: 'api_key_rotated', userId, credentialId: credentialId ?? null }
    if (credentialId === undefined) return await this.#rotateAll(act, subject)
    await audited(this.#commits, act, subject, () => this.#rotateOne(act, subject, true))
    return { rotated: 1 }
  }

  async #rotateAll(act: Act, subject: Subject): Promise<{ rotated: number }> {
    const userId = subject.userId!
    let rotated = 0
    let failure: unknown = null
    for (let after = 0; ; ) {
      const page = await submitAudited(this.#commits, act, subject, function* () {
        if (after === 0 && !(yield* hasAny(act, userId))) yield* credentialMissing(userId)
        return yield* perform('credentialsOfUser', userId, after, rotationPage)
      })
      for (const row of page) {
        after = Number(row.credentialId)
        if (row.revokedAtMs !== null || !grantsCredential(act.caller, after)) continue
        const one = { ...subject, credentialId: after }
        try {
          if (await audited(this.#commits, act, one, () => this.#rotateOne(act, one, false))) rotated++
        } catch (error) {
          if (!(error instanceof PurserError) || error.type !== 'DecryptionFailed') throw error
          failure ??= error
        }
      }
      if (page.length < rotationPage) break
    }
    // A damaged envelope does not keep the others from being rotated, but the answer says so.
    if (failure !== null) throw failure
    return { rotated }
  }

  /** Answers whether it was done; false for one that was revoked meanwhile and is only one of many. */
  async #rotateOne(act: Act, subject: Subject, named: boolean): Promise<boolean> {
    const credentialId = subject.credentialId!
    const now = this.#now
    const vault = this.#vault
    for (let tries = 0; tries < overtakenMax; tries++) {
      const before = await submitAudited(
        this.#commits,
        act,
        subject,
        function* (): Transaction<SealedCredential | null> {
          const state = yield* findState(act, subject.userId!, credentialId)
          if (named) refuseUnusable(state, now())
          return state.revokedAtMs !== null ? null : yield* findSealed(act, subject)
        },
      )
      if (before === null) return false
      const envelope = await this.#vault().reseal(before.envelope, before, before)
      const epoch = epochOf(envelope, credentialId)
      const done = await submitAudited(this.#commits, act, subject, function* (unit): Transaction<boolean> {
        const state = yield* findState(act, subject.userId!, credentialId)
        if (named) refuseUnusable(state, now())
        if (isOutdated(envelope, credentialId, vault())) return false
        const { revision, privateKeyPolicy } = before
        const sealed = {
          envelope,
          epoch,
          privateKeyPolicy,
          fingerprint: null,
          address: null,
          atMs: now(),
          contentChanged: false,
        }
        if (!(yield* perform('credentialReseal', credentialId, revision, sealed))) return false
        unit.audit(successEntry(act, subject))
        return true
      })
      if (done) {
        this.#cache.drop(credentialId)
        return true
      }
    }
    throw new PurserError('Overloaded', { retryAfterMs: 1000 })
  }
}

/** Whether the user has a credential that the caller may know of. */
function* hasAny({ caller }: Act, userId: string): Transaction<boolean> {
  if (caller.credentials === null) return yield* perform('credentialAny', userId)
  for (const credentialId of caller.credentials) {
    if ((yield* perform('credentialState', userId, credentialId)) !== undefined) return true
  }
  return false
}
