import { PurserError } from '../../errors.ts'
import type { SealedCredential, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { OpenedCache } from '../../vault/opened-cache.ts'
import type { Vault } from '../../vault/vault.ts'
import type { Act, Commits, Subject } from '../act.ts'
import { audited, submitAudited, successEntry } from '../act.ts'
import { refuseConflicts } from './admission.ts'
import type { CredentialMetadata } from './metadata.ts'
import { findRow, metadataOf } from './metadata.ts'
import type { PreparedSecrets, SecretParams } from './prepared-secrets.ts'
import { checkSecrets, fingerprinted } from './prepared-secrets.ts'
import { bindAtAnswer, epochOf, findSealed, isOutdated, overtakenMax } from './sealed.ts'

type Parts = { commits: Commits; vault: () => Vault; cache: OpenedCache; now: () => number }

/** Puts new secrets in the place of a credential's old ones. */
export class Replacing {
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

  /** Metadata after new secrets took the place of the old; a passphrase or private key not given stays. */
  async replace(
    act: Act,
    params: SecretParams & { userId: string; credentialId: number },
  ): Promise<CredentialMetadata> {
    const { userId, credentialId } = params
    const subject: Subject = { action: 'api_key_replaced', userId, credentialId }
    const checked = checkSecrets(params)
    try {
      return await audited(this.#commits, act, subject, async () => {
        const secrets = fingerprinted(checked, this.#vault())
        for (let tries = 0; tries < overtakenMax; tries++) {
          const answer = await this.#replaceOnce(act, subject, params, secrets)
          if (answer !== null) {
            bindAtAnswer(this.#cache, act, credentialId, null)
            return answer
          }
        }
        throw new PurserError('Overloaded', { retryAfterMs: 1000 })
      })
    } finally {
      checked.wipe()
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
    const before = await submitAudited(
      this.#commits,
      act,
      subject,
      function* (): Transaction<SealedCredential> {
        const sealed = yield* findSealed(act, subject)
        yield* refuseConflicts(act, userId, secrets, credentialId)
        return sealed
      },
    )
    const envelope = await this.#sealWithRest(before, params, secrets)
    const epoch = epochOf(envelope, credentialId)
    const now = this.#now
    const vault = this.#vault
    return await submitAudited(
      this.#commits,
      act,
      subject,
      function* (unit): Transaction<CredentialMetadata | null> {
        const atMs = now()
        yield* findRow(act, userId, credentialId)
        yield* refuseConflicts(act, userId, secrets, credentialId)
        const { privateKeyPolicy, revision } = before
        const { fingerprint, address } = secrets
        if (isOutdated(envelope, credentialId, vault())) return null
        const sealed = { envelope, epoch, privateKeyPolicy, fingerprint, address, atMs, contentChanged: true }
        if (!(yield* perform('credentialReseal', credentialId, revision, sealed))) return null
        const metadata = metadataOf(yield* findRow(act, userId, credentialId), atMs)
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
}
