import { PurserError } from '../../errors.ts'
import { SecretBytes } from '../../secret.ts'
import type { CredentialState, SealedCredential, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { OpenedCache } from '../../vault/opened-cache.ts'
import { type OpenedCredential, privateKeyHex } from '../../vault/opened-credential.ts'
import type { Vault } from '../../vault/vault.ts'
import type { Act, Commits, Subject, WorkUnit } from '../act.ts'
import { audited, guardOf, submitAudited, successEntry } from '../act.ts'
import type { DecryptionWindow } from '../decryption-window.ts'
import type { FreezeService } from '../freeze.ts'
import { credentialMissing, lookUpState, refuseUnusable, time } from './metadata.ts'

/** A use shows in the metadata at once the first time, later ones lag by at most this: one write a minute, not one a use. */
const useLagMs = 60_000
/** How often a retrieve starts over because the envelope changed under it before it gives up. */
const overtakenMax = 8

export type RetrievedCredential = {
  credentialId: number
  name: string | null
  apiKey: string
  apiSecret: SecretBytes
  passphrase: SecretBytes | null
  privateKey: SecretBytes | null
  address: string | null
  expiresAt: string | null
}

/** One retrieve. `subject` names the credential as soon as it is known, also where `credentialId` is not given. */
type Wanted = {
  readonly act: Act
  readonly userId: string
  readonly credentialId: number | undefined
  readonly subject: Subject & { credentialId: number | null }
}

type Opening = { readonly state: CredentialState; readonly opened: Promise<OpenedCredential> }

/**
 * Hands out credentials. One that is in memory at the stored revision leaves with one transaction (look, audit); any
 * other is opened between two: look and count, derive and decrypt, look again and audit. Whatever binds in between is
 * seen by the second look.
 */
export class CredentialRetrieval {
  readonly #commits: Commits
  readonly #vault: () => Vault
  readonly #cache: OpenedCache
  readonly #window: DecryptionWindow
  readonly #freeze: FreezeService
  readonly #now: () => number
  /** Openings under way by credential and revision; those who join one are one decryption with it. */
  readonly #underway = new Map<string, number>()

  constructor(parts: {
    commits: Commits
    vault: () => Vault
    cache: OpenedCache
    window: DecryptionWindow
    freeze: FreezeService
    now: () => number
  }) {
    this.#commits = parts.commits
    this.#vault = parts.vault
    this.#cache = parts.cache
    this.#window = parts.window
    this.#freeze = parts.freeze
    this.#now = parts.now
  }

  /**
   * The secrets of a credential, the primary where no id is given. NotFound, CredentialRevoked, CredentialExpired,
   * RateLimited, DecryptionFailed.
   */
  retrieve(act: Act, userId: string, credentialId: number | undefined): Promise<RetrievedCredential> {
    const subject = {
      action: 'api_key_retrieved' as const,
      userId,
      credentialId: credentialId ?? null,
    }
    const wanted = { act, userId, credentialId, subject }
    let opening: Opening | null = null
    const looked = submitAudited(this.#commits, act, subject, (unit) =>
      this.#lookFirst(unit, wanted, (started) => {
        opening = started
      }),
    )
    return looked.then(
      (answer) => answer ?? audited(this.#commits, act, subject, () => this.#awaitOpening(wanted, opening!)),
      (error) => {
        if (opening !== null) abandon(opening)
        throw error
      },
    )
  }

  /** Answers from memory, or starts the opening and answers null. */
  *#lookFirst(
    unit: WorkUnit,
    wanted: Wanted,
    starting: (opening: Opening) => void,
  ): Transaction<RetrievedCredential | null> {
    const state = yield* this.#findUsable(wanted)
    const cached = this.#cache.get(state.credentialId, state.revision)
    if (cached !== null) {
      wanted.act.cleanups.push(() => cached.release())
      return yield* this.#release(unit, wanted, state, cached)
    }
    const sealed = yield* perform('credentialSealed', state.credentialId)
    // Counted here, before the derivation it stands for, and not again by those who join it.
    if (!this.#underway.has(openingKey(state))) this.#window.take(wanted.userId)
    starting({ state, opened: this.#open(state, sealed!) })
    return null
  }

  /** The credential meant, if it may be used now. Frozen comes before NotFound. */
  *#findUsable({ act, userId, credentialId, subject }: Wanted): Transaction<CredentialState> {
    const state = yield* lookUpState(act, userId, credentialId)
    if (state === undefined) {
      yield* this.#freeze.refuseFrozenMissing(userId)
      return yield* credentialMissing(userId)
    }
    subject.credentialId = state.credentialId
    this.#freeze.refuseFrozen(userId, state)
    refuseUnusable(state, this.#now())
    return state
  }

  #open(state: CredentialState, sealed: SealedCredential): Promise<OpenedCredential> {
    const key = openingKey(state)
    this.#underway.set(key, (this.#underway.get(key) ?? 0) + 1)
    const opened = this.#vault().open(sealed.envelope, sealed)
    const done = () => {
      const left = (this.#underway.get(key) ?? 1) - 1
      if (left === 0) this.#underway.delete(key)
      else this.#underway.set(key, left)
    }
    opened.then(done, done)
    return opened
  }

  async #awaitOpening(wanted: Wanted, first: Opening): Promise<RetrievedCredential> {
    const { act, subject } = wanted
    let opening = first
    for (let overtaken = 0; overtaken < overtakenMax; overtaken++) {
      const opened = await opening.opened
      act.cleanups.push(() => opened.release())
      const { state } = opening
      let next: Opening | null = null
      const answer = await submitAudited(this.#commits, act, subject, (unit) =>
        this.#lookAgain(unit, wanted, state, opened, (started) => {
          next = started
        }),
      ).catch((error) => {
        if (next !== null) abandon(next)
        throw error
      })
      if (answer !== null) return answer
      opening = next!
    }
    throw new PurserError('Overloaded', { retryAfterMs: 1000 })
  }

  /** Releases what was opened if it is still what the store holds; else starts opening what it holds now, uncounted. */
  *#lookAgain(
    unit: WorkUnit,
    wanted: Wanted,
    before: CredentialState,
    opened: OpenedCredential,
    starting: (opening: Opening) => void,
  ): Transaction<RetrievedCredential | null> {
    const state = yield* this.#findUsable(wanted)
    if (state.credentialId === before.credentialId && state.revision === before.revision) {
      // Right behind the commit: a revocation in the same one drops it again with its answer.
      unit.afterCommit(() => this.#cache.set(state.credentialId, state.revision, opened))
      return yield* this.#release(unit, wanted, state, opened)
    }
    const sealed = yield* perform('credentialSealed', state.credentialId)
    starting({ state, opened: this.#open(state, sealed!) })
    return null
  }

  *#release(
    unit: WorkUnit,
    { act, subject }: Wanted,
    state: CredentialState,
    opened: OpenedCredential,
  ): Transaction<RetrievedCredential> {
    const nowMs = this.#now()
    const withKey = opened.privateKey !== null && state.privateKeyPolicy === 'exportable'
    // What replace put in has not left yet, however recently the credential was used.
    const first = state.apiSecretRetrievedAtMs === null || (withKey && state.privateKeyRetrievedAtMs === null)
    if (
      first ||
      state.lastUsedAtMs === null ||
      nowMs - state.lastUsedAtMs >= useLagMs ||
      nowMs < state.lastUsedAtMs
    ) {
      yield* perform('credentialUsed', state.credentialId, nowMs, withKey)
    }
    unit.audit(successEntry(act, subject, { privateKey: withKey }))
    const { credentialId, expiresAtMs } = state
    act.guard = guardOf(act, 'secret', { userId: subject.userId!, credentialId, expiresAtMs })
    return {
      credentialId: state.credentialId,
      name: state.name,
      apiKey: opened.apiKey.toString('utf8'),
      apiSecret: opened.outgoing.apiSecret,
      passphrase: opened.outgoing.passphrase,
      privateKey: withKey ? hexKey(act, opened) : null,
      address: state.address,
      expiresAt: time(state.expiresAtMs),
    }
  }
}

function hexKey(act: Act, opened: OpenedCredential): SecretBytes {
  const hex = new SecretBytes(privateKeyHex(opened.privateKey!))
  act.cleanups.push(() => hex.wipe())
  return hex
}

function openingKey(state: CredentialState): string {
  return `${state.credentialId}:${state.revision}`
}

/** Lets go of an opening nobody waits for any more. */
function abandon(opening: Opening): void {
  opening.opened.then(
    (opened) => opened.release(),
    () => undefined,
  )
}
