/** What a client entry may be granted; protocol section 3. */
export const scopes = [
  'credentials:read',
  'credentials:write',
  'spend',
  'sign',
  'settle',
  'audit:read',
  'freeze',
  'admin',
] as const

export type Scope = (typeof scopes)[number]

/** What an entry gives: for which users (`*` is every user that exists), for which of their credentials, to do what. */
export type Grant = {
  readonly users: '*' | ReadonlySet<string>
  /** null: every credential of those users. */
  readonly credentials: ReadonlySet<number> | null
  readonly scopes: ReadonlySet<Scope>
  readonly expiresAtMs: number | null
}

/** One registered program. All of uid, gid and token that it names must match; at least one is named. */
export type ClientEntry = {
  readonly clientId: number
  readonly name: string
  readonly uid: number | null
  readonly gid: number | null
  /** SHA-256 of the token. */
  readonly tokenHash: Buffer | null
  readonly grant: Grant
  readonly createdAtMs: number
  readonly updatedAtMs: number
  /** When it was last used; one object for all versions of an entry. */
  readonly use: { atMs: number | null }
}

/**
 * What the caller of an act may do. Every look is a new one: an entry may be narrowed, removed or expire while a request
 * waits, so nothing of it is kept.
 */
export type Caller = {
  readonly isAdmin: boolean
  /** The entry that counts; null where none does. */
  readonly clientId: number | null
  readonly users: '*' | ReadonlySet<string>
  /** null: not restricted. */
  readonly credentials: ReadonlySet<number> | null
  readonly expiresAtMs: number | null
  has(scope: Scope): boolean
  /** Whether a refusal of this caller gets an entry of its own in the audit log; else it is counted. */
  admitsRefusal(): boolean
}

/** Whether the caller's grant holds this user. */
export function grantsUser({ users }: Caller, userId: string): boolean {
  return users === '*' || users.has(userId)
}

/** Whether the grant names the user, where `*` names none: such a user need not exist yet. */
export function namesUser({ users }: Caller, userId: string): boolean {
  return users !== '*' && users.has(userId)
}

/** Whether the caller's grant holds this credential of a user it holds; null, no credential, is not one of a list. */
export function grantsCredential({ credentials }: Caller, credentialId: number | bigint | null): boolean {
  return credentials === null || (credentialId !== null && credentials.has(Number(credentialId)))
}

/** Whether `before` gives anything that `after` does not. */
export function isNarrowed(before: Grant, after: Grant): boolean {
  return (
    lacksAny(impliedScopes(before), impliedScopes(after)) ||
    (after.users !== '*' && (before.users === '*' || lacksAny(before.users, after.users))) ||
    (after.credentials !== null &&
      (before.credentials === null || lacksAny(before.credentials, after.credentials))) ||
    expiryOf(after) < expiryOf(before)
  )
}

/** What both give. */
export function intersection(a: Grant, b: Grant): Grant {
  const expiresAtMs = Math.min(expiryOf(a), expiryOf(b))
  return {
    users: a.users === '*' ? b.users : b.users === '*' ? a.users : common(a.users, b.users),
    credentials:
      a.credentials === null
        ? b.credentials
        : b.credentials === null
          ? a.credentials
          : common(a.credentials, b.credentials),
    scopes: common(impliedScopes(a), impliedScopes(b)),
    expiresAtMs: expiresAtMs === Number.POSITIVE_INFINITY ? null : expiresAtMs,
  }
}

const allScopes: ReadonlySet<Scope> = new Set(scopes)

/** `admin` implies all. */
function impliedScopes(grant: Grant): ReadonlySet<Scope> {
  return grant.scopes.has('admin') ? allScopes : grant.scopes
}

function lacksAny<T>(before: ReadonlySet<T>, after: ReadonlySet<T>): boolean {
  for (const one of before) if (!after.has(one)) return true
  return false
}

function common<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): ReadonlySet<T> {
  return new Set([...a].filter((one) => b.has(one)))
}

function expiryOf({ expiresAtMs }: Grant): number {
  return expiresAtMs ?? Number.POSITIVE_INFINITY
}
