import { PurserError } from '../../errors.ts'
import type { Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { OpenedCache } from '../../vault/opened-cache.ts'
import type { Act, Commits, Subject } from '../act.ts'
import { submitAudited, successEntry } from '../act.ts'
import type { CredentialMetadata } from './metadata.ts'
import { findRow, metadataOf } from './metadata.ts'
import { bindAtAnswer } from './sealed.ts'

type Parts = { commits: Commits; cache: OpenedCache; now: () => number }

/** Takes credentials out of use for good. */
export class Revoking {
  readonly #commits: Commits
  readonly #cache: OpenedCache
  readonly #now: () => number

  constructor(parts: Parts) {
    this.#commits = parts.commits
    this.#cache = parts.cache
    this.#now = parts.now
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
        const row = yield* findRow(act, userId, credentialId)
        const atMs = now()
        if (row.revokedAtMs === null)
          yield* perform('credentialRevoke', credentialId, atMs, params.reason ?? null)
        unit.audit(
          successEntry(act, subject, { reason: params.reason ?? null, again: row.revokedAtMs !== null }),
        )
        return metadataOf(yield* findRow(act, userId, credentialId), atMs)
      },
    )
    bindAtAnswer(
      this.#cache,
      act,
      credentialId,
      new PurserError('CredentialRevoked', { revokedAt: metadata.revokedAt }),
    )
    return metadata
  }
}
