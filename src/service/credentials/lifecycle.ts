import type { OpenedCache } from '../../vault/opened-cache.ts'
import type { Vault } from '../../vault/vault.ts'
import type { Act, Commits } from '../act.ts'
import type { UpdateParams } from './editing.ts'
import { Editing } from './editing.ts'
import type { CredentialMetadata } from './metadata.ts'
import type { SecretParams } from './prepared-secrets.ts'
import { Replacing } from './replacing.ts'
import { Resealing } from './resealing.ts'
import { Revoking } from './revoking.ts'
import type { StoreParams, StoringSettings } from './storing.ts'
import { Storing } from './storing.ts'

type Parts = {
  commits: Commits
  vault: () => Vault
  cache: OpenedCache
  settings: StoringSettings
  now: () => number
}

/** Stores, changes, revokes, replaces and rotates credentials. Every derivation happens between transactions. */
export class CredentialLifecycle {
  readonly #storing: Storing
  readonly #editing: Editing
  readonly #revoking: Revoking
  readonly #replacing: Replacing
  readonly #resealing: Resealing

  constructor(parts: Parts) {
    this.#storing = new Storing(parts)
    this.#editing = new Editing(parts)
    this.#revoking = new Revoking(parts)
    this.#replacing = new Replacing(parts)
    this.#resealing = new Resealing(parts)
  }

  /** Conflict on apiKey, address or the number of credentials; makes an unknown user for an admin. */
  store(
    act: Act,
    params: StoreParams,
  ): Promise<{ credentialId: number; fingerprint: string; address: string | null }> {
    return this.#storing.store(act, params)
  }

  /** Metadata after the change. CredentialRevoked for isPrimary on a revoked one. */
  update(act: Act, params: UpdateParams): Promise<CredentialMetadata> {
    return this.#editing.update(act, params)
  }

  /** Metadata after the revocation; the unchanged metadata where it was revoked before. */
  revoke(
    act: Act,
    params: { userId: string; credentialId: number; reason?: string | undefined },
  ): Promise<CredentialMetadata> {
    return this.#revoking.revoke(act, params)
  }

  /** Metadata after new secrets took the place of the old; a passphrase or private key not given stays. */
  replace(
    act: Act,
    params: SecretParams & { userId: string; credentialId: number },
  ): Promise<CredentialMetadata> {
    return this.#replacing.replace(act, params)
  }

  /** Gives envelopes a fresh salt, key and nonce; without an id all unrevoked ones of the user, each by itself. */
  rotate(act: Act, userId: string, credentialId: number | undefined): Promise<{ rotated: number }> {
    return this.#resealing.rotate(act, userId, credentialId)
  }
}
