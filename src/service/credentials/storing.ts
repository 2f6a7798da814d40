import { invalidParams, PurserError } from '../../errors.ts'
import type { PrivateKeyPolicy, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Vault } from '../../vault/vault.ts'
import type { Act, Commits, Subject } from '../act.ts'
import { audited, submitAudited, successEntry } from '../act.ts'
import { namesUser } from '../grant.ts'
import { defaultUser } from '../users.ts'
import { refuseAboveMost, refuseConflicts } from './admission.ts'
import { time } from './metadata.ts'
import type { PreparedSecrets, SecretParams } from './prepared-secrets.ts'
import { checkSecrets, fingerprinted } from './prepared-secrets.ts'
import { epochOf, isOutdated, overtakenMax } from './sealed.ts'

export type StoreParams = SecretParams & {
  userId: string
  name?: string | undefined
  dailySpendLimitUsd?: bigint | undefined
  expiresInDays?: number | undefined
  /** Milliseconds since 1970; not beside expiresInDays. */
  expiresAt?: number | undefined
  isPrimary?: boolean | undefined
  privateKeyPolicy?: PrivateKeyPolicy | undefined
}

export type StoringSettings = { privateKeyPolicy: PrivateKeyPolicy; maxPerUser: number }

const dayMs = 86_400_000

type Parts = {
  commits: Commits
  vault: () => Vault
  settings: StoringSettings
  now: () => number
}

/** Takes new credentials in. */
export class Storing {
  readonly #commits: Commits
  readonly #vault: () => Vault
  readonly #settings: StoringSettings
  readonly #now: () => number

  constructor(parts: Parts) {
    this.#commits = parts.commits
    this.#vault = parts.vault
    this.#settings = parts.settings
    this.#now = parts.now
  }

  /** Conflict on apiKey, address or the number of credentials; makes an unknown user for who may (see mayMakeUser). */
  async store(
    act: Act,
    params: StoreParams,
  ): Promise<{ credentialId: number; fingerprint: string; address: string | null }> {
    const expiresAtMs = this.#expiry(params)
    const checked = checkSecrets(params)
    const subject: Subject = { action: 'api_key_stored', userId: params.userId, credentialId: null }
    try {
      return await audited(this.#commits, act, subject, async () => {
        const secrets = fingerprinted(checked, this.#vault())
        const credentialId = await submitAudited(this.#commits, act, subject, (): Transaction<number> => {
          return this.#admit(act, params.userId, secrets)
        })
        const privateKeyPolicy = params.privateKeyPolicy ?? this.#settings.privateKeyPolicy
        const context = { userId: params.userId, credentialId, privateKeyPolicy }
        const { address } = secrets
        const fingerprint = secrets.fingerprint.toString('hex')
        for (let tries = 0; tries < overtakenMax; tries++) {
          const envelope = await this.#vault().seal(context, secrets)
          const inserted = await submitAudited(this.#commits, act, subject, (unit) =>
            this.#insert(unit.audit.bind(unit), act, params, { ...context, envelope, expiresAtMs, secrets }),
          )
          if (inserted) return { credentialId, fingerprint, address }
        }
        throw new PurserError('Overloaded', { retryAfterMs: 1000 })
      })
    } finally {
      checked.wipe()
    }
  }

  /** Answers the id for a new credential, after the refusals that depend on what is stored. */
  *#admit(act: Act, userId: string, secrets: PreparedSecrets): Transaction<number> {
    const user = yield* perform('userGet', userId)
    if (user === undefined && !mayMakeUser(act, userId))
      throw new PurserError('NotFound', { resource: 'user' })
    yield* refuseConflicts(act, userId, secrets, null)
    yield* refuseAboveMost(userId, this.#settings.maxPerUser)
    return yield* perform('credentialAllocateId')
  }

  /** False where a rotation of the master key began while the envelope was sealed: then it is sealed anew. */
  *#insert(
    audit: (entry: ReturnType<typeof successEntry>) => void,
    act: Act,
    params: StoreParams,
    made: {
      credentialId: number
      privateKeyPolicy: PrivateKeyPolicy
      envelope: Buffer
      expiresAtMs: number | null
      secrets: PreparedSecrets
    },
  ): Transaction<boolean> {
    const { userId } = params
    const { credentialId, secrets } = made
    if (isOutdated(made.envelope, credentialId, this.#vault())) return false
    const atMs = this.#now()
    const userMade = (yield* perform('userGet', userId)) === undefined
    if (userMade && !mayMakeUser(act, userId)) throw new PurserError('NotFound', { resource: 'user' })
    // Once more: others were stored while this one was sealed.
    yield* refuseConflicts(act, userId, secrets, credentialId)
    yield* refuseAboveMost(userId, this.#settings.maxPerUser)
    if (userMade) yield* perform('userInsert', defaultUser(userId), atMs)
    const first = !(yield* perform('credentialAny', userId))
    const isPrimary = first || params.isPrimary === true
    if (isPrimary && !first) yield* perform('credentialDemotePrimary', userId, atMs)
    yield* perform('credentialInsert', {
      credentialId,
      userId,
      name: params.name ?? null,
      fingerprint: secrets.fingerprint,
      address: secrets.address,
      privateKeyPolicy: made.privateKeyPolicy,
      isPrimary: isPrimary ? 1 : 0,
      dailyLimitMicros: params.dailySpendLimitUsd ?? null,
      atMs,
      expiresAtMs: made.expiresAtMs,
      epoch: epochOf(made.envelope, credentialId),
      envelope: made.envelope,
    })
    const details = {
      name: params.name ?? null,
      address: secrets.address,
      isPrimary,
      privateKeyPolicy: made.privateKeyPolicy,
      expiresAt: time(made.expiresAtMs),
      userMade,
    }
    audit(successEntry(act, { action: 'api_key_stored', userId, credentialId }, details))
    return true
  }

  #expiry(params: StoreParams): number | null {
    if (params.expiresInDays !== undefined) return this.#now() + params.expiresInDays * dayMs
    if (params.expiresAt === undefined) return null
    if (params.expiresAt <= this.#now()) throw invalidParams('expiresAt', 'must lie in the future')
    return params.expiresAt
  }
}

/** An unknown user is made for an admin, or where the caller's grant names that very user. */
function mayMakeUser({ caller }: Act, userId: string): boolean {
  return caller.isAdmin || namesUser(caller, userId)
}
