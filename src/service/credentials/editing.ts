import { PurserError } from '../../errors.ts'
import type { CredentialRow, SealedCredential, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { OpenedCache } from '../../vault/opened-cache.ts'
import type { Vault } from '../../vault/vault.ts'
import type { Act, Commits, Subject } from '../act.ts'
import { audited, submitAudited, successEntry } from '../act.ts'
import type { CredentialMetadata } from './metadata.ts'
import { findRow, metadataOf, time } from './metadata.ts'
import { bindAtAnswer, epochOf, findSealed, isOutdated, overtakenMax } from './sealed.ts'

export type UpdateParams = {
  userId: string
  credentialId: number
  name?: string | null | undefined
  dailySpendLimitUsd?: bigint | null | undefined
  expiresAt?: number | null | undefined
  isPrimary?: true | undefined
  privateKeyPolicy?: 'sign-only' | undefined
}

type Parts = { commits: Commits; vault: () => Vault; cache: OpenedCache; now: () => number }
type Resealed = { revision: number; envelope: Buffer }

/** Changes what is known of a credential besides its secrets. */
export class Editing {
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

  /** Metadata after the change. CredentialRevoked for isPrimary on a revoked one. */
  async update(act: Act, params: UpdateParams): Promise<CredentialMetadata> {
    const { userId, credentialId } = params
    const subject: Subject = { action: 'api_key_updated', userId, credentialId }
    return await audited(this.#commits, act, subject, async () => {
      for (let tries = 0; tries < overtakenMax; tries++) {
        // Sign-only is part of what the envelope is bound to: it takes a new envelope, made before the commit.
        const resealed =
          params.privateKeyPolicy === undefined ? null : await this.#toSignOnly(act, subject, params)
        const answer = await submitAudited(this.#commits, act, subject, (unit) =>
          this.#applyUpdate(unit.audit.bind(unit), act, params, resealed),
        )
        if (answer !== null) {
          if (params.privateKeyPolicy !== undefined || params.expiresAt !== undefined)
            bindAtAnswer(this.#cache, act, credentialId, expiryIn(params, answer))
          return answer
        }
      }
      throw new PurserError('Overloaded', { retryAfterMs: 1000 })
    })
  }

  async #toSignOnly(act: Act, subject: Subject, params: UpdateParams): Promise<Resealed | null> {
    const sealed = await submitAudited(
      this.#commits,
      act,
      subject,
      function* (): Transaction<SealedCredential> {
        const row = yield* findRow(act, params.userId, params.credentialId)
        refuseLoosening(act, params, row)
        refuseRevokedPrimary(params, row)
        return yield* findSealed(act, subject)
      },
    )
    if (sealed.privateKeyPolicy === 'sign-only') return null
    const envelope = await this.#vault().reseal(sealed.envelope, sealed, {
      ...sealed,
      privateKeyPolicy: 'sign-only',
    })
    return { revision: sealed.revision, envelope }
  }

  *#applyUpdate(
    audit: (entry: ReturnType<typeof successEntry>) => void,
    act: Act,
    params: UpdateParams,
    resealed: Resealed | null,
  ): Transaction<CredentialMetadata | null> {
    const { userId, credentialId } = params
    const atMs = this.#now()
    const row = yield* findRow(act, userId, credentialId)
    refuseLoosening(act, params, row)
    refuseRevokedPrimary(params, row)
    if (params.privateKeyPolicy !== undefined && row.privateKeyPolicy !== 'sign-only') {
      if (resealed === null) return null
      const { revision, envelope } = resealed
      if (isOutdated(envelope, credentialId, this.#vault())) return null
      const epoch = epochOf(envelope, credentialId)
      const sealed = {
        envelope,
        epoch,
        privateKeyPolicy: 'sign-only' as const,
        fingerprint: null,
        address: null,
        atMs,
        contentChanged: true,
      }
      if (!(yield* perform('credentialReseal', credentialId, revision, sealed))) return null
    }
    const becomesPrimary = params.isPrimary === true && row.isPrimary === 0n
    if (becomesPrimary) yield* perform('credentialDemotePrimary', userId, atMs)
    yield* perform('credentialEdit', credentialId, {
      name: params.name === undefined ? row.name : params.name,
      dailyLimitMicros:
        params.dailySpendLimitUsd === undefined ? row.dailyLimitMicros : params.dailySpendLimitUsd,
      expiresAtMs: params.expiresAt === undefined ? numberOrNull(row.expiresAtMs) : params.expiresAt,
      isPrimary: becomesPrimary || row.isPrimary === 1n ? 1 : 0,
      atMs,
    })
    const after = yield* findRow(act, userId, credentialId)
    const metadata = metadataOf(after, atMs)
    const changed = (
      ['name', 'dailySpendLimitUsd', 'expiresAt', 'isPrimary', 'privateKeyPolicy'] as const
    ).filter((field) => params[field] !== undefined)
    const details = Object.fromEntries(changed.map((field) => [field, metadata[field]]))
    audit(successEntry(act, { action: 'api_key_updated', userId, credentialId }, details))
    return metadata
  }
}

/** What is answered in the place of a grant that an expiry has overtaken; null where none has come by this change. */
function expiryIn({ expiresAt }: UpdateParams, metadata: CredentialMetadata): PurserError | null {
  if (expiresAt === undefined || metadata.status !== 'expired') return null
  return new PurserError('CredentialExpired', { expiredAt: metadata.expiresAt })
}

/** Forbidden for whoever is no admin and would raise or clear a limit or an expiry. */
function refuseLoosening({ caller }: Act, params: UpdateParams, row: CredentialRow): void {
  if (caller.isAdmin) return
  if (
    isLoosened(row.dailyLimitMicros, params.dailySpendLimitUsd) ||
    isLoosened(row.expiresAtMs, params.expiresAt)
  )
    throw new PurserError('Forbidden', { scope: 'admin' })
}

/** Whether a bound is raised, or taken away by null; undefined leaves it. */
function isLoosened(before: bigint | null, after: bigint | number | null | undefined): boolean {
  if (before === null || after === undefined) return false
  return after === null || after > before
}

function refuseRevokedPrimary(params: UpdateParams, row: { revokedAtMs: bigint | null }): void {
  if (params.isPrimary === true && row.revokedAtMs !== null)
    throw new PurserError('CredentialRevoked', { revokedAt: time(row.revokedAtMs) })
}

function numberOrNull(value: bigint | null): number | null {
  return value === null ? null : Number(value)
}
