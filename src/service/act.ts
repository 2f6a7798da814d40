import type { AuditAction, AuditEntry, Peer } from '../audit/entry.ts'
import { PurserError } from '../errors.ts'
import type { GroupCommit, Order, Undo, Unit } from '../store/group-commit.ts'
import type { Transaction } from '../store/operations.ts'

/**
 * What an answer may not outlive: it holds secrets, or grants something (`kind`). It is looked at again at the moment
 * the answer goes to the kernel.
 */
export type ReleaseGuard = {
  readonly kind: 'secret' | 'grant'
  readonly userId: string
  readonly credentialId: number | null
  readonly expiresAtMs: number | null
}

/** What an act takes away at its answer, and what is answered in the place of a grant it overtakes. */
export type Binding = {
  readonly on: { readonly credentialId: number } | { readonly userId: string } | 'everything'
  /** Whether grants are taken away too, or only secrets opened before. */
  readonly grants: boolean
  readonly error: PurserError
}

/** Whether `binding` takes away what `guard` guards. */
export function isBound(guard: ReleaseGuard, binding: Binding): boolean {
  if (guard.kind === 'grant' && !binding.grants) return false
  if (binding.on === 'everything') return true
  return 'userId' in binding.on
    ? guard.userId === binding.on.userId
    : guard.credentialId === binding.on.credentialId
}

/**
 * One request as the services see it. `order` is its place in the order of execution, set when its last transaction
 * runs; answers are handed to the kernel in that order. `check` throws where the caller may not do this (any more); it
 * runs first in each of the act's transactions, so a request with a slow step in between is looked at again after it.
 */
export type Act = Order & {
  readonly peer: Peer
  readonly client: string | null
  readonly admin: boolean
  /** Set by an act whose answer holds secrets or grants something. */
  guard: ReleaseGuard | null
  /** What binds when this act's answer is handed over. */
  readonly bindings: Binding[]
  /** Runs once the answer is written or dropped: lets go of opened secrets. */
  readonly cleanups: (() => void)[]
}

export type Commits = GroupCommit<AuditEntry>
export type WorkUnit = Unit<AuditEntry>

/** Errors that are never audited: protocol errors and Overloaded (contract, end of section 5). */
const unaudited = new Set<string>([
  'ParseError',
  'InvalidRequest',
  'FrameTooLarge',
  'MethodNotFound',
  'InvalidParams',
  'Overloaded',
  'StorageUnavailable',
])

/** Outcome `error` says purser could not decide, `denied` that it decided against. */
const undecided = new Set<string>(['DecryptionFailed', 'InternalError'])

const recorded = new WeakSet<object>()

/** Whether the refusal `error` already has its audit entry. */
export function isRecorded(error: unknown): boolean {
  return typeof error === 'object' && error !== null && recorded.has(error)
}

/** What an operation is audited as, known before it is tried. */
export type Subject = {
  readonly action: AuditAction
  readonly userId: string | null
  readonly credentialId: number | null
}

/** What an entry tells of the data of an error; the rest stays out. */
const toldOfErrors = ['resource', 'level', 'requestedUsd', 'limitUsd', 'availableUsd'] as const

/** The entry for a refused or failed operation, null where the contract says that none is written. */
export function refusalEntry(act: Act, subject: Subject, error: unknown): AuditEntry | null {
  const type = error instanceof PurserError ? error.type : 'InternalError'
  if (unaudited.has(type)) return null
  const data = error instanceof PurserError ? error.data : {}
  const told = toldOfErrors.filter((name) => typeof data[name] === 'string')
  return {
    ...subject,
    action: type === 'Forbidden' ? 'access_denied' : subject.action,
    outcome: undecided.has(type) ? 'error' : 'denied',
    details: { error: type, ...Object.fromEntries(told.map((name) => [name, data[name]])) },
    peer: act.peer,
    client: act.client,
  }
}

/** The entry for an operation that was carried out. */
export function successEntry(
  act: Act,
  subject: Subject,
  details: Readonly<Record<string, unknown>> = {},
): AuditEntry {
  return { ...subject, outcome: 'ok', details, peer: act.peer, client: act.client }
}

/**
 * Submits one transaction of an audited operation. Where it refuses, the refusal's entry is written in the same commit
 * in the place of what it had done. `undo`: see Undo.
 */
export function submitAudited<T>(
  commits: Commits,
  act: Act,
  subject: Subject,
  work: (unit: WorkUnit) => Transaction<T>,
  undo: Undo = 'savepoint',
): Promise<T> {
  const refused = (error: unknown) => {
    const entry = refusalEntry(act, subject, error)
    if (entry !== null && typeof error === 'object' && error !== null) recorded.add(error)
    return entry
  }
  return commits.submit(work, act, refused, undo)
}

/**
 * Runs an audited operation that has slow steps: a refusal that arises outside of its transactions gets its entry in
 * one of its own before the refusal is answered.
 */
export async function audited<T>(
  commits: Commits,
  act: Act,
  subject: Subject,
  operation: () => Promise<T>,
): Promise<T> {
  try {
    act.check()
    return await operation()
  } catch (error) {
    if (!isRecorded(error)) {
      const entry = refusalEntry(act, subject, error)
      if (entry !== null) {
        await commits.submit(function* (unit): Transaction<void> {
          unit.audit(entry)
        }, act)
      }
    }
    throw error
  }
}
