import type { Peer } from '../audit/entry.ts'
import { PurserError } from '../errors.ts'

export type Role = 'admin' | 'client' | 'none'

/** What a client entry may be granted; protocol section 3. */
export type Scope =
  | 'credentials:read'
  | 'credentials:write'
  | 'spend'
  | 'sign'
  | 'settle'
  | 'audit:read'
  | 'freeze'
  | 'admin'

/**
 * What a method asks of its caller: `anyone`; `entry`: any client entry; `user`: any scope on the user; or one of the
 * scopes. The role admin has them all.
 */
export type MethodScope = 'anyone' | 'entry' | 'user' | Scope

/** Which socket a connection came in by. */
export type Door = 'main' | 'admin'

/** An id that the daemon's user namespace cannot see shows as this one: it is nobody. */
const overflowId = 65534

export type IdentityRules = { readonly ownUid: number; readonly hasAdminSocket: boolean }

/**
 * The role the kernel's word gives a caller. Root and the daemon's own uid are admins; where an admin socket is set,
 * only on it.
 */
export function roleOf(peer: Pick<Peer, 'uid'>, door: Door, rules: IdentityRules): Role {
  if (rules.hasAdminSocket && door !== 'admin') return 'none'
  if (peer.uid === 0) return 'admin'
  return peer.uid === rules.ownUid && peer.uid !== overflowId ? 'admin' : 'none'
}

/** Forbidden, naming the scope, unless a caller of this role may use a method that asks for `scope`. */
export function authorize(role: Role, scope: MethodScope): void {
  if (scope === 'anyone' || role === 'admin') return
  throw new PurserError('Forbidden', { scope: scope === 'entry' || scope === 'user' ? null : scope })
}
