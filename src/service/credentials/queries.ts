import { invalidParams } from '../../errors.ts'
import type { CredentialRow, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Act, Commits } from '../act.ts'
import { findUser } from '../users.ts'
import type { CredentialMetadata, CredentialStatus } from './metadata.ts'
import { findRow, metadataOf } from './metadata.ts'

/** Rows read in one transaction: about 3 ms, so that a list over a million credentials never holds the loop. */
const sliceRows = 1000

export type ListParams = {
  userId?: string | undefined
  status?: CredentialStatus | undefined
  /** Milliseconds since 1970. */
  encryptedBefore?: number | undefined
  cursor?: string | undefined
  limit: number
}

export type CredentialPage = { credentials: CredentialMetadata[]; nextCursor: string | null }

const dayMs = 86_400_000

/** Reads of what is not secret. None of them is audited. */
export class CredentialQueries {
  readonly #commits: Commits
  readonly #now: () => number

  constructor(parts: { commits: Commits; now: () => number }) {
    this.#commits = parts.commits
    this.#now = parts.now
  }

  /** NotFound for an id that is not that user's. */
  get(act: Act, userId: string, credentialId: number): Promise<CredentialMetadata> {
    const now = this.#now
    return this.#commits.submit(function* (): Transaction<CredentialMetadata> {
      return metadataOf(yield* findRow(userId, credentialId), now())
    }, act)
  }

  /** In the order of ids, of one user or of all. NotFound for an unknown user. */
  async list(act: Act, params: ListParams): Promise<CredentialPage> {
    let after = params.cursor === undefined ? 0 : parseCursor(params.cursor)[0]!
    const { userId } = params
    const found: CredentialMetadata[] = []
    for (;;) {
      const wanted = Math.min(sliceRows, params.limit - found.length + 1)
      const span = params.status === undefined && params.encryptedBefore === undefined ? wanted : sliceRows
      const rows = await this.#commits.submit(function* (): Transaction<CredentialRow[]> {
        if (userId === undefined) return yield* perform('credentialsAll', after, span)
        yield* findUser(userId)
        return yield* perform('credentialsOfUser', userId, after, span)
      }, act)
      const nowMs = this.#now()
      for (const row of rows) {
        const metadata = metadataOf(row, nowMs)
        if (params.status !== undefined && metadata.status !== params.status) continue
        if (params.encryptedBefore !== undefined && Number(row.encryptedAtMs) >= params.encryptedBefore)
          continue
        if (found.length === params.limit)
          return { credentials: found, nextCursor: cursor(found.at(-1)!.credentialId) }
        found.push(metadata)
      }
      if (rows.length < span) return { credentials: found, nextCursor: null }
      after = Number(rows.at(-1)!.credentialId)
    }
  }

  /** Unrevoked, not yet expired, expiring within `withinDays`, soonest first. */
  async expiring(
    act: Act,
    params: { withinDays: number; cursor?: string | undefined; limit: number },
  ): Promise<CredentialPage> {
    const nowMs = this.#now()
    const [cursorMs = 0, cursorId = 0] = params.cursor === undefined ? [] : parseCursor(params.cursor)
    // What expires at this very millisecond has expired, also where the cursor stands before it by now.
    const [afterMs, afterId] = cursorMs > nowMs ? [cursorMs, cursorId] : [nowMs, Number.MAX_SAFE_INTEGER]
    const untilMs = nowMs + params.withinDays * dayMs
    const rows = await this.#commits.submit(
      () => perform('credentialsExpiring', afterMs, afterId, untilMs, params.limit + 1),
      act,
    )
    const page = rows.slice(0, params.limit)
    const last = page.at(-1)
    return {
      credentials: page.map((row) => metadataOf(row, nowMs)),
      nextCursor:
        rows.length > params.limit && last !== undefined
          ? cursor(Number(last.expiresAtMs), Number(last.credentialId))
          : null,
    }
  }
}

/** A cursor is the key of the last row given out. */
function cursor(...key: number[]): string {
  return key.join('.')
}

function parseCursor(text: string): number[] {
  if (!/^\d{1,16}(\.\d{1,16})?$/.test(text))
    throw invalidParams('cursor', 'use the nextCursor of an earlier answer as it is')
  return text.split('.').map(Number)
}
