import { PurserError } from '../errors.ts'
import type { Caller, Scope } from '../service/grant.ts'
import { grantsUser } from '../service/grant.ts'

export type Role = 'admin' | 'client' | 'none'

/**
 * What a method asks of its caller: `anyone`; `entry`: any client entry; `user`: any scope on the user; or a scope, of
 * several one. The role admin has them all.
 */
export type MethodScope = 'anyone' | 'entry' | 'user' | Scope | readonly [Scope, Scope]

/**
 * What a method is about, and so what of a grant it takes beside the scope:
 * `nothing`: no user's; `user`: the user in its params; `new-credential`: the same, and no list of credentials can hold
 * it; `granted`: it shows what is granted, of one user where params name one; `reservation`: the user of a reservation,
 * which the service finds; `everything`: users `*`.
 */
export type MethodAbout = 'nothing' | 'user' | 'new-credential' | 'granted' | 'reservation' | 'everything'

/** A caller with the role it has at this moment. */
export type RoledCaller = Caller & { readonly role: Role }

/** Forbidden, naming the scope, unless the caller may use a method that asks for `scope`. */
export function authorize(caller: RoledCaller, scope: MethodScope): void {
  if (scope === 'anyone') return
  if (scope === 'entry' || scope === 'user') {
    if (caller.role === 'none') throw new PurserError('Forbidden', { scope: null })
    return
  }
  // One look at the entry: each is one at the clock, too, where the entry expires.
  if (typeof scope === 'string') {
    if (!caller.has(scope)) throw new PurserError('Forbidden', { scope })
  } else if (!caller.has(scope[0]) && !caller.has(scope[1])) {
    throw new PurserError('Forbidden', { scope: scope[0] })
  }
}

type Params = { readonly userId?: string; readonly isPrimary?: boolean }

/** Forbidden unless the caller's grant holds what a request is about. Nothing of the store is looked at for it. */
export function authorizeAbout(caller: Caller, about: MethodAbout, params: unknown): void {
  const { userId, isPrimary } = params as Params
  switch (about) {
    case 'nothing':
    case 'reservation':
      return
    case 'everything':
      if (caller.users !== '*') throw outsideGrant()
      return
    case 'granted':
      if (userId !== undefined && !grantsUser(caller, userId)) throw outsideGrant()
      return
    case 'user':
      if (!grantsUser(caller, userId!)) throw outsideGrant()
      // Which one is primary is a matter of all the user's credentials.
      if (isPrimary === true && caller.credentials !== null) throw outsideGrant()
      return
    case 'new-credential':
      if (!grantsUser(caller, userId!) || caller.credentials !== null) throw outsideGrant()
      return
    default:
      about satisfies never
      throw outsideGrant()
  }
}

/** The same words whether what was asked for exists or not. */
function outsideGrant(): PurserError {
  return new PurserError('Forbidden', { scope: null })
}
