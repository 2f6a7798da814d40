import type { AuditAction, AuditEntry, Peer } from '../audit/entry.ts'
import { PurserError } from '../errors.ts'
import type { GroupCommit, Order, Undo, Unit } from '../store/group-commit.ts'
import type { Transaction } from '../store/operations.ts'
import type { Caller } from './grant.ts'
import { grantsCredential } from './grant.ts'

/**
 * What an answer may not outlive. It holds secrets, grants something, or is only an answer to a client (`kind`), which
 * nothing but the removal or narrowing of that client takes back. It is looked at again at the moment the answer goes to
 * the kernel.
 */
export type ReleaseGuard = {
  readonly kind: 'secret' | 'grant' | 'answer'
  readonly userId: string | null
  readonly credentialId: number | null
  /** The client entry it was asked by. */
  readonly clientId: number | null
  readonly expiresAtMs: number | null
  /** Whether who asked may still do what it asked for. */
  readonly isPermitted: () => boolean
}

/** What an act takes away at its answer, and what is answered in the place of a grant it overtakes. */
export type Binding = {
  readonly on:
    | { readonly credentialId: number }
    | { readonly userId: string }
    | { readonly clientId: number }
    | 'everything'
  /** Whether grants are taken away too, or only secrets opened before. */
  readonly grants: boolean
  readonly error: PurserError
}

/** Whether `binding` takes away what `guard` guards. */
export function isBound(guard: ReleaseGuard, binding: Binding): boolean {
  const { on } = binding
  if (typeof on === 'object' && 'clientId' in on) {
    if (guard.clientId !== on.clientId) return false
    // A grant must not be lost to a change that leaves it allowed: who was granted it could not ask for it again.
    return guard.kind !== 'grant' || !guard.isPermitted()
  }
  if (guard.kind === 'answer' || (guard.kind === 'grant' && !binding.grants)) return false
  if (on === 'everything') return true
  return 'userId' in on ? guard.userId === on.userId : guard.credentialId === on.credentialId
}

/**
 * One request as the services see it. `order` is its place in the order of execution, set when its last transaction
 * runs; answers are handed to the kernel in that order. `check` throws where the caller may not do this (any more); it
 * runs first in each of the act's transactions, so a request with a slow step in between is looked at again after it.
 */
export type Act = Order & {
  readonly peer: Peer
  readonly client: string | null
  /** The client entry that counted when the request came; null where none did, as for an admin by its uid. */
  readonly clientId: number | null
  readonly caller: Caller
  /** Set by an act whose answer holds secrets or grants something. */
  guard: ReleaseGuard | null
  /** What binds when this act's answer is handed over. */
  readonly bindings: Binding[]
  /** Runs once the answer is written or dropped: lets go of opened secrets. */
  readonly cleanups: (() => void)[]
}

export type Commits = GroupCommit<AuditEntry>
export type WorkUnit = Unit<AuditEntry>

/** The guard of an answer to `act` that is about a credential, or about a user's own money. */
export function guardOf(
  act: Act,
  kind: 'secret' | 'grant',
  about: { userId: string; credentialId: number | null; expiresAtMs: number | null },
): ReleaseGuard {
  const { caller } = act
  const { clientId, expiresAtMs } = caller
  return {
    kind,
    userId: about.userId,
    credentialId: about.credentialId,
    clientId,
    // What a client was granted stays granted when the client's own time is over; a secret is not to leave then.
    expiresAtMs: kind === 'secret' ? earlier(about.expiresAtMs, expiresAtMs) : about.expiresAtMs,
    isPermitted: () => isPermitted(act) && grantsCredential(caller, about.credentialId),
  }
}

/** The guard of any other answer to a client. */
export function answerGuard(act: Act): ReleaseGuard {
  return {
    kind: 'answer',
    userId: null,
    credentialId: null,
    clientId: act.clientId,
    expiresAtMs: null,
    isPermitted: () => isPermitted(act),
  }
}

function isPermitted(act: Act): boolean {
  try {
    act.check()
    return true
  } catch {
    return false
  }
}

function earlier(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.min(a, b)
}

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
function isRecorded(error: unknown): boolean {
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
function refusalEntry(act: Act, subject: Subject, error: unknown): AuditEntry | null {
  const type = error instanceof PurserError ? error.type : 'InternalError'
  if (unaudited.has(type)) return null
  const data = error instanceof PurserError ? error.data : {}
  const told = toldOfErrors.filter((name) => typeof data[name] === 'string')
  return {
    ...subject,
    action: type === 'Forbidden' ? 'access_denied' : subject.action,
    outcome: undecided.has(type) ? 'error' : 'denied',
    details: {
      error: type,
      ...Object.fromEntries(told.map((name) => [name, data[name]])),
      ...whichClient(act),
    },
    peer: act.peer,
    client: act.client,
  }
}

/**
 * The refusal's entry if it is to be written: beyond a bound a caller's refusals are only counted, which a flood of them
 * must not pass. Errors are no refusals and always written.
 */
function admittedEntry(act: Act, subject: Subject, error: unknown): AuditEntry | null {
  const entry = refusalEntry(act, subject, error)
  if (entry === null) return null
  if (typeof error === 'object' && error !== null) recorded.add(error)
  return entry.outcome === 'denied' && !act.caller.admitsRefusal() ? null : entry
}

/** `client` of an entry is what the caller calls itself; which client entry it came by stands in the details. */
function whichClient({ clientId }: Act): { asClient?: number } {
  return clientId === null ? {} : { asClient: clientId }
}

/** The entry for an operation that was carried out. */
export function successEntry(
  act: Act,
  subject: Subject,
  details: Readonly<Record<string, unknown>> = {},
): AuditEntry {
  const named = act.clientId === null ? details : { ...details, ...whichClient(act) }
  return { ...subject, outcome: 'ok', details: named, peer: act.peer, client: act.client }
}

/** The entry for what the daemon does by itself, long after whoever asked for it had an answer. */
export function ownEntry(
  action: AuditAction,
  outcome: AuditEntry['outcome'],
  details: AuditEntry['details'],
): AuditEntry {
  return { action, outcome, userId: null, credentialId: null, details, peer: null, client: null }
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
  return commits.submit(work, act, (error) => admittedEntry(act, subject, error), undo)
}

/** Writes the entry of a refusal that has none yet, before it is answered; `more` is told in its details. */
export async function recordRefusal(
  commits: Commits,
  act: Act,
  subject: Subject,
  error: unknown,
  more: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  if (isRecorded(error)) return
  const entry = admittedEntry(act, subject, error)
  if (entry === null) return
  await commits.submit(function* (unit): Transaction<void> {
    unit.audit({ ...entry, details: { ...entry.details, ...more } })
  }, unchecked(act))
}

/** The place of `act` for the entry of its refusal: what refused the act must not refuse that too. */
function unchecked(act: Act): Order {
  return {
    get order() {
      return act.order
    },
    set order(order) {
      act.order = order
    },
    check: () => undefined,
  }
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
    await recordRefusal(commits, act, subject, error)
    throw error
  }
}
