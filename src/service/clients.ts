import { hash, randomFillSync } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { invalidParams, PurserError } from '../errors.ts'
import { offHeap, SecretBytes } from '../secret.ts'
import type { ClientGrantColumns, ClientRow, Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { Act, Commits, Subject } from './act.ts'
import { submitAudited, successEntry } from './act.ts'
import { time } from './credentials/metadata.ts'
import type { ClientEntry, Grant, Scope } from './grant.ts'
import { intersection, isNarrowed } from './grant.ts'
import { diskLowError } from './system.ts'

/** Entries there may be: all of them are kept in memory, and a host of bots needs a few dozen. */
const clientsMax = 10_000
/** A use shows at once the first time, later ones lag by at most this: one write a minute, not one a request. */
const useLagMs = 60_000
/** How often the store is asked for an entry whose change it could not write. */
const readAgainMs = 1000
/** Rows read in one transaction of a list. */
const sliceRows = 1000
const tokenBytes = 32
const tokenPrefix = 'prs_'

/** The entries in memory, by which callers are told apart; `access/` looks them up. */
export type ClientBook = {
  get(clientId: number): ClientEntry | undefined
  put(entry: ClientEntry): void
  remove(clientId: number): void
}

export type ClientGrantParams = {
  users?: '*' | readonly string[] | undefined
  credentials?: readonly number[] | null | undefined
  scopes?: readonly Scope[] | undefined
  /** Milliseconds since 1970. */
  expiresAt?: number | null | undefined
}

export type AddClientParams = {
  name: string
  uid?: number | undefined
  gid?: number | undefined
  token?: true | undefined
  expiresAt?: number | undefined
  users: '*' | readonly string[]
  credentials?: readonly number[] | undefined
  scopes: readonly Scope[]
}

/** An entry as answers show it: never its token. */
export type ClientView = {
  clientId: number
  name: string
  uid: number | null
  gid: number | null
  hasToken: boolean
  users: '*' | string[]
  credentials: number[] | null
  scopes: Scope[]
  expiresAt: string | null
  createdAt: string
  updatedAt: string
  lastUsedAt: string | null
}

/**
 * Client entries: in the store and in memory. What an act takes away is taken in memory within its transaction, so that
 * nothing behind it in the same commit counts on it; what it gives is given with it too, for whoever is let through by
 * it is answered by the same commit or a later one. Where that commit fails, what was given is gone, and a removal stays.
 */
export class ClientService {
  readonly #commits: Commits
  readonly #book: ClientBook
  readonly #diskLow: () => boolean
  readonly #now: () => number

  constructor(parts: { commits: Commits; book: ClientBook; diskLow: () => boolean; now: () => number }) {
    this.#commits = parts.commits
    this.#book = parts.book
    this.#diskLow = parts.diskLow
    this.#now = parts.now
  }

  /** Conflict for a taken name, uid or gid; InvalidParams. The token is told this once. */
  async add(act: Act, params: AddClientParams): Promise<{ clientId: number; token: SecretBytes | null }> {
    const { name, uid = null, gid = null, expiresAt = null } = params
    if (uid === null && gid === null && params.token === undefined)
      throw invalidParams('uid', 'give at least one of uid, gid and token')
    if (expiresAt !== null && expiresAt <= this.#now())
      throw invalidParams('expiresAt', 'must lie in the future')
    const grant = grantOf({ ...params, credentials: params.credentials ?? null, expiresAt })
    refuseBadAdmin(grant)
    const token = params.token === true ? newToken() : null
    if (token !== null) act.cleanups.push(() => token.wipe())
    const tokenHash = token === null ? null : hash('sha256', token.bytes, 'buffer')
    const subject: Subject = { action: 'client_added', userId: null, credentialId: null }
    const [book, atMs] = [this.#book, this.#now()]
    let made: ClientEntry | null = null
    try {
      return await submitAudited(this.#commits, act, subject, function* (unit) {
        yield* refuseTaken(name, token === null ? uid : null, token === null ? gid : null)
        const row = { name, uid, gid, tokenHash, ...columnsOf(grant), atMs }
        const clientId = yield* perform('clientInsert', row)
        const use = { atMs: null }
        made = { clientId, name, uid, gid, tokenHash, grant, createdAtMs: atMs, updatedAtMs: atMs, use }
        book.put(made)
        unit.audit(successEntry(act, subject, detailsOf(made)))
        return { clientId, token }
      })
    } catch (error) {
      forget(book, made)
      throw error
    }
  }

  /** The entry after the change; what is absent stays, null clears. NotFound, InvalidParams. */
  async update(act: Act, params: ClientGrantParams & { clientId: number }): Promise<ClientView> {
    const { clientId } = params
    const subject: Subject = { action: 'client_updated', userId: null, credentialId: null }
    const [book, diskLow, atMs] = [this.#book, this.#diskLow, this.#now()]
    let narrowed: ClientEntry | null = null
    try {
      const { before, after } = await submitAudited(this.#commits, act, subject, function* (unit) {
        const { row, entry } = yield* findClient(book, clientId)
        const before = entryOf(row)
        const grant = changedGrant(before.grant, params)
        refuseBadAdmin(grant)
        // Taking away must work on a full disk; giving more is what the reserve is not for.
        if (isNarrowed(grant, before.grant) && diskLow()) throw diskLowError()
        const after = { ...before, grant, updatedAtMs: atMs, use: entry.use }
        narrowed = { ...after, grant: intersection(entry.grant, grant) }
        book.put(narrowed)
        yield* perform('clientUpdate', clientId, columnsOf(grant), atMs)
        unit.audit(successEntry(act, subject, detailsOf(after)))
        return { before, after }
      })
      if (book.get(clientId) === narrowed) book.put(after)
      if (isNarrowed(before.grant, after.grant)) act.bindings.push(bindingOf(clientId))
      return viewOf(after)
    } catch (error) {
      if (narrowed !== null) void this.#readAgain(narrowed)
      throw error
    }
  }

  /** The change of `narrowed` was not written: what the store says counts again, once it can be read. */
  async #readAgain(narrowed: ClientEntry): Promise<void> {
    const { clientId } = narrowed
    while (this.#book.get(clientId) === narrowed) {
      const row = await this.#commits.submit(() => perform('clientGet', clientId)).catch(() => null)
      if (row === null) await delay(readAgainMs, undefined, { ref: false })
      else if (this.#book.get(clientId) === narrowed) {
        if (row === undefined) this.#book.remove(clientId)
        else this.#book.put({ ...entryOf(row), use: narrowed.use })
      }
    }
  }

  /** NotFound. Binds also where it cannot be written. */
  async remove(act: Act, clientId: number): Promise<{ clientId: number }> {
    const subject: Subject = { action: 'client_removed', userId: null, credentialId: null }
    const book = this.#book
    try {
      await submitAudited(this.#commits, act, subject, function* (unit): Transaction<void> {
        const row = yield* perform('clientGet', clientId)
        if (row === undefined) throw new PurserError('NotFound', { resource: 'client' })
        // From here on, not from the answer on: what follows in this commit is answered behind it.
        book.remove(clientId)
        yield* perform('clientRemove', clientId)
        unit.audit(successEntry(act, subject, { clientId, name: row.name }))
      })
    } catch (error) {
      if (!(error instanceof PurserError) || error.type !== 'StorageUnavailable') throw error
      book.remove(clientId)
      act.bindings.push(bindingOf(clientId))
      throw error
    }
    act.bindings.push(bindingOf(clientId))
    return { clientId }
  }

  /** In the order they were added. */
  async list(
    act: Act,
    params: { cursor?: string | undefined; limit: number },
  ): Promise<{ clients: ClientView[]; nextCursor: string | null }> {
    let after = params.cursor === undefined ? 0 : parseCursor(params.cursor)
    const found: ClientView[] = []
    for (;;) {
      const from = after
      const rows = await this.#commits.submit(() => perform('clientsPage', from, sliceRows), act)
      for (const row of rows) {
        // One whose removal could not be written is removed all the same.
        const entry = this.#book.get(row.clientId)
        if (entry === undefined) continue
        if (found.length === params.limit)
          return { clients: found, nextCursor: String(found.at(-1)!.clientId) }
        found.push(viewOf({ ...entryOf(row), use: entry.use }))
      }
      if (rows.length < sliceRows) return { clients: found, nextCursor: null }
      after = rows.at(-1)!.clientId
    }
  }

  /** Takes down that an entry was used; null is a caller without one. */
  used(entry: ClientEntry | null): void {
    if (entry === null) return
    const { clientId, use } = entry
    const nowMs = this.#now()
    if (use.atMs !== null && nowMs - use.atMs < useLagMs && nowMs >= use.atMs) return
    use.atMs = nowMs
    // Information: where it cannot be written, what it tells of goes on.
    void this.#commits.submit(() => perform('clientUsed', clientId, nowMs)).catch(() => undefined)
  }
}

/** An entry as the store has it. Throws where its lists are no JSON. */
export function entryOf(row: ClientRow): ClientEntry {
  const { clientId, name, uid, gid, tokenHash, createdAtMs, updatedAtMs } = row
  const list = (text: string) => JSON.parse(text) as never[]
  return {
    clientId,
    name,
    uid,
    gid,
    tokenHash,
    grant: {
      users: row.users === '*' ? '*' : new Set<string>(list(row.users)),
      credentials: row.credentials === null ? null : new Set<number>(list(row.credentials)),
      scopes: new Set<Scope>(list(row.scopes)),
      expiresAtMs: row.expiresAtMs,
    },
    createdAtMs,
    updatedAtMs,
    use: { atMs: row.lastUsedAtMs },
  }
}

function* refuseTaken(name: string, uid: number | null, gid: number | null): Transaction<void> {
  const field = yield* perform('clientTaken', name, uid, gid)
  if (field !== null) {
    throw new PurserError(
      'Conflict',
      { resource: 'client', field },
      {
        message: `another client entry has this ${field}`,
        hint: field === 'name' ? 'take another name' : 'change that entry, or tell them apart by tokens',
      },
    )
  }
  if ((yield* perform('clientCount')) < clientsMax) return
  throw new PurserError(
    'Conflict',
    { resource: 'client', field: null },
    { message: `there are ${clientsMax} client entries, the most allowed`, hint: 'remove one' },
  )
}

function* findClient(
  book: ClientBook,
  clientId: number,
): Transaction<{ row: ClientRow; entry: ClientEntry }> {
  const row = yield* perform('clientGet', clientId)
  const entry = book.get(clientId)
  if (row === undefined || entry === undefined) throw new PurserError('NotFound', { resource: 'client' })
  return { row, entry }
}

function grantOf(params: Required<ClientGrantParams>): Grant {
  return changedGrant({ users: new Set(), credentials: null, scopes: new Set(), expiresAtMs: null }, params)
}

function changedGrant(before: Grant, params: ClientGrantParams): Grant {
  const { users, credentials, scopes, expiresAt } = params
  return {
    users: users === undefined ? before.users : users === '*' ? '*' : new Set(users),
    credentials:
      credentials === undefined ? before.credentials : credentials === null ? null : new Set(credentials),
    scopes: scopes === undefined ? before.scopes : new Set(scopes),
    expiresAtMs: expiresAt === undefined ? before.expiresAtMs : expiresAt,
  }
}

/** An admin is one for everybody. */
function refuseBadAdmin({ scopes, users, credentials }: Grant): void {
  if (!scopes.has('admin')) return
  if (users !== '*') throw invalidParams('users', 'must be "*" with the scope admin')
  if (credentials !== null) throw invalidParams('credentials', 'cannot be given with the scope admin')
}

function columnsOf(grant: Grant): ClientGrantColumns {
  return {
    users: grant.users === '*' ? '*' : JSON.stringify([...grant.users]),
    credentials: grant.credentials === null ? null : JSON.stringify([...grant.credentials]),
    scopes: JSON.stringify([...grant.scopes]),
    expiresAtMs: grant.expiresAtMs,
  }
}

function viewOf(entry: ClientEntry): ClientView {
  const { users, credentials, scopes, expiresAtMs } = entry.grant
  return {
    clientId: entry.clientId,
    name: entry.name,
    uid: entry.uid,
    gid: entry.gid,
    hasToken: entry.tokenHash !== null,
    users: users === '*' ? '*' : [...users],
    credentials: credentials === null ? null : [...credentials],
    scopes: [...scopes],
    expiresAt: time(expiresAtMs),
    createdAt: time(entry.createdAtMs),
    updatedAt: time(entry.updatedAtMs),
    lastUsedAt: time(entry.use.atMs),
  }
}

function detailsOf(entry: ClientEntry): Readonly<Record<string, unknown>> {
  const { clientId, name, uid, gid, hasToken, users, credentials, scopes, expiresAt } = viewOf(entry)
  return { clientId, name, uid, gid, hasToken, users, credentials, scopes, expiresAt }
}

function bindingOf(clientId: number) {
  return { on: { clientId }, grants: true, error: new PurserError('Forbidden', { scope: null }) }
}

/** Takes an entry that was not written out of memory, unless another has its id by now. */
function forget(book: ClientBook, made: ClientEntry | null): void {
  if (made !== null && book.get(made.clientId) === made) book.remove(made.clientId)
}

const digits = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_')

/** `prs_` and 32 random bytes as base64url, never a string. The caller wipes it. */
function newToken(): SecretBytes {
  const random = randomFillSync(offHeap(tokenBytes))
  const token = offHeap(tokenPrefix.length + Math.ceil((tokenBytes * 8) / 6))
  token.write(tokenPrefix, 'latin1')
  for (let index = 0; index < token.length - tokenPrefix.length; index++) {
    const bit = index * 6
    const pair = (random[bit >> 3]! << 8) | (random[(bit >> 3) + 1] ?? 0)
    token[tokenPrefix.length + index] = digits[(pair >> (10 - (bit & 7))) & 63]!
  }
  random.fill(0)
  return new SecretBytes(token)
}

function parseCursor(text: string): number {
  if (!/^\d{1,15}$/.test(text))
    throw invalidParams('cursor', 'use the nextCursor of an earlier answer as it is')
  return Number(text)
}
