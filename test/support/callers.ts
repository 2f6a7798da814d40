import type { Caller, Grant } from '../../src/service/grant.ts'

/** An admin by its uid, for acts that a test makes without a connection. */
export const adminCaller: Caller = {
  isAdmin: true,
  clientId: null,
  users: '*',
  credentials: null,
  expiresAtMs: null,
  has: () => true,
  admitsRefusal: () => true,
}

/** A client with a grant that stays as it is. */
export function callerOf(grant: Grant, clientId = 1): Caller {
  return {
    isAdmin: grant.scopes.has('admin'),
    clientId,
    users: grant.users,
    credentials: grant.credentials,
    expiresAtMs: grant.expiresAtMs,
    has: (scope) => grant.scopes.has(scope),
    admitsRefusal: () => true,
  }
}
