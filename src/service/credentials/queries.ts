import { invalidParams } from '../../errors.ts'
import type { CredentialRow, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Act, Commits } from '../act.ts'
import { grantsCredential, grantsUser } from '../grant.ts'
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
      return metadataOf(yield* findRow(act, userId, credentialId), now())
    }, act)
  }

  /** In the order of ids, of one user or of all that are granted. NotFound for an unknown user. */
  async list(act: Act, params: ListParams): Promise<CredentialPage> {
    let after = params.cursor === undefined ? 0 : parseCursor(params.cursor)[0]!
    const { userId } = params
    const found: CredentialMetadata[] = []
    for (;;) {
      const wanted = Math.min(sliceRows, params.limit - found.length + 1)
      const span = params.status === undefined && params.encryptedBefore === undefined ? wanted : sliceRows
      const rows = await this.#rowsOf(act, userId, after, span)
      const nowMs = this.#now()
      for (const row of rows) {
        if (!isGranted(act, row) || (userId !== undefined && row.userId !== userId)) continue
        const metadata = metadataOf(row, nowMs)
        if (params.status !== undefined && metadata.status !== params.status) continue
        if (params.encryptedBefore !== undefined && Number(row.encryptedAtMs) >= params.encryptedBefore)
          continue
        if (found.length === params.limit)
          return { credentials: stillGranted(act, found), nextCursor: cursor(found.at(-1)!.credentialId) }
        found.push(metadata)
      }
      if (rows.length < span) return { credentials: stillGranted(act, found), nextCursor: null }
      after = Number(rows.at(-1)!.credentialId)
    }
  }

  /** The next `span` rows behind `after` of the user, or of those that are granted: fewer are the last ones. */
  #rowsOf(act: Act, userId: string | undefined, after: number, span: number): Promise<CredentialRow[]> {
    const { users, credentials } = act.caller
    if (userId === undefined && credentials === null && users !== '*')
      return this.#rowsOfUsers(act, [...users], after, span)
    return this.#commits.submit(function* (): Transaction<CredentialRow[]> {
      if (userId !== undefined) yield* findUser(userId)
      if (credentials !== null) return yield* listedRows(credentials, after, span)
      return yield* userId === undefined
        ? perform('credentialsAll', after, span)
        : perform('credentialsOfUser', userId, after, span)
    }, act)
  }

  /** A grant names few users of perhaps very many: the first rows of each are put in order. */
  async #rowsOfUsers(
    act: Act,
    users: readonly string[],
    after: number,
    span: number,
  ): Promise<CredentialRow[]> {
    const found: CredentialRow[] = []
    for (let start = 0; start < users.length; ) {
      const from = start
      start = await this.#commits.submit(function* (): Transaction<number> {
        let read = 0
        let at = from
        while (at < users.length && read < sliceRows) {
          const rows = yield* perform('credentialsOfUser', users[at++]!, after, span)
          read += 1 + rows.length
          found.push(...rows)
        }
        return at
      }, act)
      found.sort((a, b) => Number(a.credentialId - b.credentialId))
      found.splice(span)
    }
    return found
  }

  /** Unrevoked, not yet expired, expiring within `withinDays`, soonest first. */
  async expiring(
    act: Act,
    params: { withinDays: number; cursor?: string | undefined; limit: number },
  ): Promise<CredentialPage> {
    const nowMs = this.#now()
    const [cursorMs = 0, cursorId = 0] = params.cursor === undefined ? [] : parseCursor(params.cursor)
    // What expires at this very millisecond has expired, also where the cursor stands before it by now.
    let [afterMs, afterId] = cursorMs > nowMs ? [cursorMs, cursorId] : [nowMs, Number.MAX_SAFE_INTEGER]
    const untilMs = nowMs + params.withinDays * dayMs
    const found: CredentialRow[] = []
    const { users, credentials } = act.caller
    const span = users === '*' && credentials === null ? params.limit + 1 : sliceRows
    for (;;) {
      const [fromMs, fromId] = [afterMs, afterId]
      const rows = await this.#commits.submit(
        () => perform('credentialsExpiring', fromMs, fromId, untilMs, span),
        act,
      )
      for (const row of rows) if (isGranted(act, row)) found.push(row)
      if (rows.length < span || found.length > params.limit) break
      afterMs = Number(rows.at(-1)!.expiresAtMs)
      afterId = Number(rows.at(-1)!.credentialId)
    }
    const page = found.slice(0, params.limit)
    const last = page.at(-1)
    return {
      credentials: stillGranted(act, page).map((row) => metadataOf(row, nowMs)),
      nextCursor:
        found.length > params.limit && last !== undefined
          ? cursor(Number(last.expiresAtMs), Number(last.credentialId))
          : null,
    }
  }
}

type Owned = { readonly userId: string; readonly credentialId: number | bigint }

function isGranted({ caller }: Act, row: Owned): boolean {
  return grantsUser(caller, row.userId) && grantsCredential(caller, row.credentialId)
}

/** Without what the caller has lost while the others were read: the answer comes after that. */
function stillGranted<Row extends Owned>(act: Act, found: readonly Row[]): Row[] {
  return found.filter((row) => isGranted(act, row))
}

/** The rows of the credentials that a grant lists: they are looked up one by one, however many there are of others. */
function* listedRows(
  credentials: ReadonlySet<number>,
  after: number,
  span: number,
): Transaction<CredentialRow[]> {
  const found: CredentialRow[] = []
  const ids = [...credentials].filter((id) => id > after).sort((a, b) => a - b)
  for (const id of ids) {
    if (found.length === span) break
    const [row] = yield* perform('credentialsAll', id - 1, 1)
    if (row !== undefined && Number(row.credentialId) === id) found.push(row)
  }
  return found
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
