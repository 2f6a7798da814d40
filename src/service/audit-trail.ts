import { setImmediate as nextTurn } from 'node:timers/promises'
import type { AuditAction } from '../audit/entry.ts'
import type { SealTold, Verification } from '../audit/verify.ts'
import { finishVerification, startVerification, tellsOfSeal, verifyRow } from '../audit/verify.ts'
import { invalidParams, PurserError } from '../errors.ts'
import type { AuditRow } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { Act, Commits } from './act.ts'
import { time } from './credentials/metadata.ts'
import { grantsCredential, grantsUser } from './grant.ts'

/** Entries looked at in one transaction, so that nothing holds the loop for long: by sequence, and by one user's index. */
const scanSpan = 5000
const scanSpanOfUser = 20_000
/** Entries hashed in one go by a verification: about 8 ms. */
const verifySlice = 1000
/** Failures read in one transaction. */
const failureSlice = 5000
const hourMs = 3_600_000

export type AuditEntryView = {
  seq: number
  at: string
  action: string
  userId: string | null
  credentialId: number | null
  outcome: 'ok' | 'denied' | 'error'
  details: unknown
  peer: {
    uid: number
    gid: number | null
    pid: number | null
    comm: string | null
    unit: string | null
  } | null
  client: string | null
  hash: string
}

export type AuditQueryParams = {
  userId?: string | undefined
  action?: string | undefined
  outcome?: 'ok' | 'denied' | 'error' | undefined
  since?: number | undefined
  until?: number | undefined
  cursor?: string | undefined
  limit: number
}

/** Reads and verifies the audit log. */
export class AuditTrail {
  readonly #commits: Commits
  readonly #mac: (hash: Buffer) => Buffer | null
  readonly #now: () => number

  constructor(parts: { commits: Commits; mac: (hash: Buffer) => Buffer | null; now: () => number }) {
    this.#commits = parts.commits
    this.#mac = parts.mac
    this.#now = parts.now
  }

  /** Newest first. */
  async query(
    act: Act,
    params: AuditQueryParams,
  ): Promise<{ entries: AuditEntryView[]; nextCursor: string | null }> {
    let beforeSeq = await this.#startSeq(act, params.cursor)
    const span = params.userId === undefined ? scanSpan : scanSpanOfUser
    const found: AuditRow[] = []
    while (beforeSeq > 1 && found.length <= params.limit) {
      const filter = {
        beforeSeq,
        span,
        userId: params.userId ?? null,
        actionGlob: params.action === undefined ? null : actionGlob(params.action),
        outcome: params.outcome ?? null,
        sinceMs: params.since ?? null,
        untilMs: params.until ?? null,
        ...shownTo(act),
        limit: params.limit + 1 - found.length,
      }
      found.push(...(await this.#commits.submit(() => perform('auditPage', filter), act)))
      beforeSeq -= span
    }
    const page = found.slice(0, params.limit)
    return {
      // Once more: the caller may have lost some of them while the others were read.
      entries: page.filter((row) => isShown(act, row)).map(viewOf),
      nextCursor: found.length > params.limit ? String(page.at(-1)!.seq) : null,
    }
  }

  async #startSeq(act: Act, cursor: string | undefined): Promise<number> {
    if (cursor !== undefined && !/^\d{1,15}$/.test(cursor))
      throw invalidParams('cursor', 'use the nextCursor of an earlier answer as it is')
    const head = await this.#commits.submit(() => perform('auditHead'), act)
    const end = (head?.seq ?? 0) + 1
    // Nothing lies beyond the end, and to look for it there span by span would take for ever.
    return cursor === undefined ? end : Math.min(Number(cursor), end)
  }

  /**
   * Walks the chain from `fromSeq` (the entry before it is taken as it is) to the end of the commit that held the head
   * at the time of the call. NotFound where there is no such entry.
   */
  async verify(act: Act, fromSeq: number | undefined): Promise<Verification> {
    const mac = this.#mac
    const { head, hasKey } = await this.#commits.submit(function* () {
      const head = yield* perform('auditHead')
      return { head, hasKey: head !== undefined && mac(head.hash) !== null }
    }, act)
    const first = fromSeq ?? 1
    let state = startVerification(null)
    if (first > 1) {
      const [before] = await this.#commits.submit(() => perform('auditRange', first - 1, 1), act)
      if (before?.seq !== first - 1) throw new PurserError('NotFound', { resource: 'entry' })
      state = startVerification(before, await this.#sealTold(act, first))
    }
    const until = head?.seq ?? 0
    // The head may have been read in the midst of a commit, whose MAC stands on its last entry: that far it goes on.
    while (state.ok && (state.headSeq < until || (hasKey && state.unmacked > 0))) {
      const from = state.headSeq + 1
      const rows = await this.#commits.submit(() => perform('auditRange', from, verifySlice), act)
      if (rows.length === 0) {
        if (from <= until) state = { ...state, ok: false, firstBadSeq: from }
        break
      }
      for (const row of rows) {
        if (row.seq > until && (!hasKey || state.unmacked === 0)) break
        verifyRow(state, row, mac)
      }
      await nextTurn()
    }
    return finishVerification(state, hasKey)
  }

  /** What the log tells of a seal before entry `seq`: whether its latest entry on that does, not whether it is stored. */
  async #sealTold(act: Act, seq: number): Promise<SealTold> {
    for (let beforeSeq = seq; beforeSeq > 1; beforeSeq -= scanSpan) {
      const filter = {
        beforeSeq,
        span: scanSpan,
        userId: null,
        outcome: 'ok',
        sinceMs: null,
        untilMs: null,
        users: null,
        credentials: null,
        limit: 1,
      }
      const told = await this.#commits.submit(function* () {
        const seals = yield* perform('auditPage', { ...filter, actionGlob: 'system_*sealed' })
        const starts = yield* perform('auditPage', { ...filter, actionGlob: 'daemon_started' })
        return [...seals, ...starts].sort((one, other) => other.seq - one.seq)
      }, act)
      if (told[0] !== undefined) return tellsOfSeal(told[0]) ?? 'unsealed'
    }
    return 'unsealed'
  }

  /** Users with more than `over` retrievals in the last `hours` that were refused or failed, most first. */
  async failures(
    act: Act,
    params: { hours: number; over: number },
  ): Promise<{ users: { userId: string; failures: number }[] }> {
    const action: AuditAction = 'api_key_retrieved'
    const sinceMs = this.#now() - params.hours * hourMs
    const counts = new Map<string, number>()
    let { credentials } = shownTo(act)
    let after = { atMs: sinceMs, seq: 0 }
    for (;;) {
      const last = after
      const of = credentials
      const rows = await this.#commits.submit(
        () => perform('auditFailures', action, sinceMs, last, of, failureSlice),
        act,
      )
      credentials = shownTo(act).credentials
      if (credentials !== of) {
        // What the caller may see has changed while it was counted.
        counts.clear()
        after = { atMs: sinceMs, seq: 0 }
        continue
      }
      for (const { userId } of rows) if (userId !== null) counts.set(userId, (counts.get(userId) ?? 0) + 1)
      if (rows.length < failureSlice) break
      after = rows.at(-1)!
    }
    const users = [...counts].filter(([, failures]) => failures > params.over)
    users.sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    return { users: users.map(([userId, failures]) => ({ userId, failures })) }
  }
}

/** The users and credentials whose entries the caller is granted, as the store filters by them; null is all. */
function shownTo({ caller: { users, credentials } }: Act): {
  users: string | null
  credentials: string | null
} {
  return {
    users: users === '*' ? null : JSON.stringify([...users]),
    credentials: credentials === null ? null : JSON.stringify([...credentials]),
  }
}

/** The same for an entry that was read. */
function isShown({ caller }: Act, { userId, credentialId }: AuditRow): boolean {
  return (
    (caller.users === '*' || (userId !== null && grantsUser(caller, userId))) &&
    grantsCredential(caller, credentialId)
  )
}

/** The GLOB of an action with an optional star at its end; every other character stands for itself. */
function actionGlob(action: string): string {
  const literal = action.endsWith('*') ? action.slice(0, -1) : action
  const escaped = literal.replace(/[*?[]/g, (special) => `[${special}]`)
  return action.endsWith('*') ? `${escaped}*` : escaped
}

function viewOf(row: AuditRow): AuditEntryView {
  return {
    seq: row.seq,
    at: time(row.atMs),
    action: row.action,
    userId: row.userId,
    credentialId: row.credentialId,
    outcome: row.outcome,
    details: JSON.parse(row.details),
    peer:
      row.peerUid === null
        ? null
        : { uid: row.peerUid, gid: row.peerGid, pid: row.peerPid, comm: row.peerComm, unit: row.peerUnit },
    client: row.client,
    hash: row.hash.toString('hex'),
  }
}
