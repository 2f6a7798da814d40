import { invalidParams, PurserError } from '../../errors.ts'
import { offHeapCopy, type SecretBytes } from '../../secret.ts'
import { addressOfPrivateKey } from '../../signer/address.ts'
import type { PrivateKeyPolicy, SealedCredential, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { CredentialSecrets } from '../../vault/credential-secrets.ts'
import { parseEnvelope } from '../../vault/envelope.ts'
import type { OpenedCache } from '../../vault/opened-cache.ts'
import type { Vault } from '../../vault/vault.ts'
import type { Act, Commits, Subject } from '../act.ts'
import { audited, submitAudited, successEntry } from '../act.ts'
import { defaultUser } from '../users.ts'
import type { CredentialMetadata } from './metadata.ts'
import { credentialMissing, findRow, findState, metadataOf, refuseUnusable, time } from './metadata.ts'
import { canonicalApiSecret, parsePrivateKey } from './secret-forms.ts'

/** Tries at a credential whose envelope changes under an act before it gives up; each costs a derivation. */
const overtakenMax = 8
/** Credentials looked up in one transaction by a rotation of all. */
const rotationPage = 100

export type SecretParams = {
  apiKey: string
  apiSecret: SecretBytes
  passphrase?: SecretBytes | undefined
  privateKey?: SecretBytes | undefined
}

export type StoreParams = SecretParams & {
  userId: string
  name?: string | undefined
  dailySpendLimitUsd?: bigint | undefined
  expiresInDays?: number | undefined
  /** Milliseconds since 1970. */
  expiresAt?: number | undefined
  isPrimary?: boolean | undefined
  privateKeyPolicy?: PrivateKeyPolicy | undefined
}

export type UpdateParams = {
  userId: string
  credentialId: number
  name?: string | null | undefined
  dailySpendLimitUsd?: bigint | null | undefined
  expiresAt?: number | null | undefined
  isPrimary?: true | undefined
  privateKeyPolicy?: 'sign-only' | undefined
}

export type LifecycleSettings = { privateKeyPolicy: PrivateKeyPolicy; maxPerUser: number }

const dayMs = 86_400_000

type Parts = {
  commits: Commits
  vault: () => Vault
  cache: OpenedCache
  settings: LifecycleSettings
  now: () => number
}

/** Secrets in the form they are kept in, wiped by `wipe`. */
type PreparedSecrets = CredentialSecrets & { address: string | null; fingerprint: Buffer; wipe(): void }

/** Stores, changes, revokes, replaces and rotates credentials. Every derivation happens between transactions. */
export class CredentialLifecycle {
  readonly #commits: Commits
  readonly #vault: () => Vault
  readonly #cache: OpenedCache
  readonly #settings: LifecycleSettings
  readonly #now: () => number

  constructor(parts: Parts) {
    this.#commits = parts.commits
    this.#vault = parts.vault
    this.#cache = parts.cache
    this.#settings = parts.settings
    this.#now = parts.now
  }

  /** Conflict on apiKey, address or the number of credentials; makes an unknown user for an admin. */
  async store(
    act: Act,
    params: StoreParams,
  ): Promise<{ credentialId: number; fingerprint: string; address: string | null }> {
    const expiresAtMs = this.#expiry(params)
    const secrets = this.#prepare(params)
    const subject: Subject = { action: 'api_key_stored', userId: params.userId, credentialId: null }
    try {
      return await audited(this.#commits, act, subject, async () => {
        const credentialId = await submitAudited(this.#commits, act, subject, (): Transaction<number> => {
          return this.#admit(act, params.userId, secrets, 0)
        })
        const privateKeyPolicy = params.privateKeyPolicy ?? this.#settings.privateKeyPolicy
        const context = { userId: params.userId, credentialId, privateKeyPolicy }
        const envelope = await this.#vault().seal(context, secrets)
        await submitAudited(this.#commits, act, subject, (unit) =>
          this.#insert(unit.audit.bind(unit), act, params, { ...context, envelope, expiresAtMs, secrets }),
        )
        return { credentialId, fingerprint: secrets.fingerprint.toString('hex'), address: secrets.address }
      })
    } finally {
      secrets.wipe()
    }
  }

  /** The refusals that depend on what is stored; 0 as `replacing` asks for a new id and answers it. */
  *#admit(act: Act, userId: string, secrets: PreparedSecrets, replacing: number): Transaction<number> {
    const user = yield* perform('userGet', userId)
    if (user === undefined && !act.admin) throw new PurserError('NotFound', { resource: 'user' })
    yield* this.#refuseConflicts(act, userId, secrets, replacing)
    if (replacing !== 0) return replacing
    yield* this.#refuseAboveMost(userId)
    return yield* perform('credentialAllocateId')
  }

  *#refuseAboveMost(userId: string): Transaction<void> {
    const most = this.#settings.maxPerUser
    if ((yield* perform('credentialUnrevokedCount', userId, most)) < most) return
    throw new PurserError(
      'Conflict',
      { resource: 'credential', field: null },
      {
        message: `the user has ${most} unrevoked credentials, the most allowed`,
        hint: 'revoke one, or raise credentials.max_per_user',
      },
    )
  }

  *#refuseConflicts(act: Act, userId: string, secrets: PreparedSecrets, except: number): Transaction<void> {
    const sameKey = yield* perform('credentialWithFingerprint', userId, secrets.fingerprint)
    if (sameKey !== undefined && sameKey !== except) {
      throw new PurserError(
        'Conflict',
        { resource: 'apiKey', field: 'apiKey' },
        {
          message: 'the user has this API key in an unrevoked credential',
          hint: 'use that credential, or revoke it first',
        },
      )
    }
    if (secrets.address === null || act.admin) return
    if ((yield* perform('credentialWithAddress', secrets.address, except)) !== undefined) {
      throw new PurserError(
        'Conflict',
        { resource: 'address', field: 'privateKey' },
        {
          message: 'an unrevoked credential already holds this private key',
          hint: 'an admin may store it twice',
        },
      )
    }
  }

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
  ): Transaction<void> {
    const { userId } = params
    const { credentialId, secrets } = made
    const atMs = this.#now()
    const userMade = (yield* perform('userGet', userId)) === undefined
    if (userMade && !act.admin) throw new PurserError('NotFound', { resource: 'user' })
    // Once more: others were stored while this one was sealed.
    yield* this.#refuseConflicts(act, userId, secrets, credentialId)
    yield* this.#refuseAboveMost(userId)
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
            this.#bind(act, credentialId, null)
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
        refuseRevokedPrimary(params, yield* findRow(params.userId, params.credentialId))
        return yield* findSealed(subject)
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
    const row = yield* findRow(userId, credentialId)
    refuseRevokedPrimary(params, row)
    if (params.privateKeyPolicy !== undefined && row.privateKeyPolicy !== 'sign-only') {
      if (resealed === null) return null
      const { revision, envelope } = resealed
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
    const after = yield* findRow(userId, credentialId)
    const metadata = metadataOf(after, atMs)
    const changed = (
      ['name', 'dailySpendLimitUsd', 'expiresAt', 'isPrimary', 'privateKeyPolicy'] as const
    ).filter((field) => params[field] !== undefined)
    const details = Object.fromEntries(changed.map((field) => [field, metadata[field]]))
    audit(successEntry(act, { action: 'api_key_updated', userId, credentialId }, details))
    return metadata
  }

  /** Metadata after the revocation; the unchanged metadata where it was revoked before. */
  async revoke(
    act: Act,
    params: { userId: string; credentialId: number; reason?: string | undefined },
  ): Promise<CredentialMetadata> {
    const { userId, credentialId } = params
    const subject: Subject = { action: 'api_key_revoked', userId, credentialId }
    const now = this.#now
    const metadata = await submitAudited(
      this.#commits,
      act,
      subject,
      function* (unit): Transaction<CredentialMetadata> {
        const row = yield* findRow(userId, credentialId)
        const atMs = now()
        if (row.revokedAtMs === null)
          yield* perform('credentialRevoke', credentialId, atMs, params.reason ?? null)
        unit.audit(
          successEntry(act, subject, { reason: params.reason ?? null, again: row.revokedAtMs !== null }),
        )
        return metadataOf(yield* findRow(userId, credentialId), atMs)
      },
    )
    this.#bind(act, credentialId, new PurserError('CredentialRevoked', { revokedAt: metadata.revokedAt }))
    return metadata
  }

  /** Metadata after new secrets took the place of the old; a passphrase or private key not given stays. */
  async replace(
    act: Act,
    params: SecretParams & { userId: string; credentialId: number },
  ): Promise<CredentialMetadata> {
    const { userId, credentialId } = params
    const subject: Subject = { action: 'api_key_replaced', userId, credentialId }
    const secrets = this.#prepare(params)
    try {
      return await audited(this.#commits, act, subject, async () => {
        for (let tries = 0; tries < overtakenMax; tries++) {
          const answer = await this.#replaceOnce(act, subject, params, secrets)
          if (answer !== null) {
            this.#bind(act, credentialId, null)
            return answer
          }
        }
        throw new PurserError('Overloaded', { retryAfterMs: 1000 })
      })
    } finally {
      secrets.wipe()
    }
  }

  async #replaceOnce(
    act: Act,
    subject: Subject,
    params: SecretParams,
    secrets: PreparedSecrets,
  ): Promise<CredentialMetadata | null> {
    const credentialId = subject.credentialId!
    const userId = subject.userId!
    const admit = this.#admit.bind(this)
    const before = await submitAudited(
      this.#commits,
      act,
      subject,
      function* (): Transaction<SealedCredential> {
        const sealed = yield* findSealed(subject)
        yield* admit(act, userId, secrets, credentialId)
        return sealed
      },
    )
    const envelope = await this.#sealWithRest(before, params, secrets)
    const epoch = epochOf(envelope, credentialId)
    const refuseConflicts = this.#refuseConflicts.bind(this)
    const now = this.#now
    return await submitAudited(
      this.#commits,
      act,
      subject,
      function* (unit): Transaction<CredentialMetadata | null> {
        const atMs = now()
        yield* findRow(userId, credentialId)
        yield* refuseConflicts(act, userId, secrets, credentialId)
        const { privateKeyPolicy, revision } = before
        const { fingerprint, address } = secrets
        const sealed = { envelope, epoch, privateKeyPolicy, fingerprint, address, atMs, contentChanged: true }
        if (!(yield* perform('credentialReseal', credentialId, revision, sealed))) return null
        const metadata = metadataOf(yield* findRow(userId, credentialId), atMs)
        const details = {
          address: metadata.address,
          passphrase: params.passphrase !== undefined,
          privateKey: params.privateKey !== undefined,
        }
        unit.audit(successEntry(act, subject, details))
        return metadata
      },
    )
  }

  /** Seals the new secrets together with those of the old envelope that were not given. */
  async #sealWithRest(
    before: SealedCredential,
    params: SecretParams,
    secrets: PreparedSecrets,
  ): Promise<Buffer> {
    if (params.passphrase !== undefined && params.privateKey !== undefined)
      return await this.#vault().seal(before, secrets)
    const old = await this.#vault().open(before.envelope, before)
    try {
      return await this.#vault().seal(before, {
        apiKey: secrets.apiKey,
        apiSecret: secrets.apiSecret,
        passphrase: secrets.passphrase ?? old.passphrase,
        privateKey: secrets.privateKey ?? old.privateKey,
      })
    } finally {
      old.release()
    }
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
        if (after === 0 && !(yield* perform('credentialAny', userId))) yield* credentialMissing(userId)
        return yield* perform('credentialsOfUser', userId, after, rotationPage)
      })
      for (const row of page) {
        after = Number(row.credentialId)
        if (row.revokedAtMs !== null) continue
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
    for (let tries = 0; tries < overtakenMax; tries++) {
      const before = await submitAudited(
        this.#commits,
        act,
        subject,
        function* (): Transaction<SealedCredential | null> {
          const state = yield* findState(subject.userId!, credentialId)
          if (named) refuseUnusable(state, now())
          return state.revokedAtMs !== null ? null : yield* findSealed(subject)
        },
      )
      if (before === null) return false
      const envelope = await this.#vault().reseal(before.envelope, before, before)
      const epoch = epochOf(envelope, credentialId)
      const done = await submitAudited(this.#commits, act, subject, function* (unit): Transaction<boolean> {
        const state = yield* findState(subject.userId!, credentialId)
        if (named) refuseUnusable(state, now())
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

  /**
   * What was opened before is not to leave any more, from the answer of this act on; nor is what was granted, where
   * that is answered by `error` now.
   */
  #bind(act: Act, credentialId: number, error: PurserError | null): void {
    this.#cache.drop(credentialId)
    const instead = error ?? new PurserError('Overloaded', { retryAfterMs: 100 })
    act.bindings.push({ on: { credentialId }, grants: error !== null, error: instead })
  }

  #expiry(params: StoreParams): number | null {
    if (params.expiresAt !== undefined && params.expiresInDays !== undefined) {
      throw invalidParams('expiresAt', 'give expiresInDays or expiresAt, not both')
    }
    if (params.expiresInDays !== undefined) return this.#now() + params.expiresInDays * dayMs
    if (params.expiresAt === undefined) return null
    if (params.expiresAt <= this.#now()) throw invalidParams('expiresAt', 'must lie in the future')
    return params.expiresAt
  }

  /** Checks the secrets and puts them into the form they are kept in. InvalidParams. */
  #prepare(params: SecretParams): PreparedSecrets {
    const made: Buffer[] = []
    const keep = (bytes: Buffer) => {
      made.push(bytes)
      return bytes
    }
    const wipe = () => {
      for (const bytes of made) bytes.fill(0)
    }
    try {
      const apiKey = keep(offHeapCopy(Buffer.from(params.apiKey, 'utf8')))
      const apiSecret = keep(canonicalApiSecret(params.apiSecret.bytes))
      const privateKey =
        params.privateKey === undefined ? null : keep(parsePrivateKey(params.privateKey.bytes))
      return {
        apiKey,
        apiSecret,
        passphrase: params.passphrase === undefined ? null : keep(offHeapCopy(params.passphrase.bytes)),
        privateKey,
        address: privateKey === null ? null : addressOfPrivateKey(privateKey),
        fingerprint: this.#vault().keyring.fingerprint(apiKey),
        wipe,
      }
    } catch (error) {
      wipe()
      throw error
    }
  }
}

type Resealed = { revision: number; envelope: Buffer }

function refuseRevokedPrimary(params: UpdateParams, row: { revokedAtMs: bigint | null }): void {
  if (params.isPrimary === true && row.revokedAtMs !== null)
    throw new PurserError('CredentialRevoked', { revokedAt: time(row.revokedAtMs) })
}

function epochOf(envelope: Buffer, credentialId: number): number {
  return parseEnvelope(envelope, credentialId).epoch
}

function* findSealed(subject: Subject): Transaction<SealedCredential> {
  const state = yield* findState(subject.userId!, subject.credentialId!)
  return (yield* perform('credentialSealed', state.credentialId))!
}

function numberOrNull(value: bigint | null): number | null {
  return value === null ? null : Number(value)
}
