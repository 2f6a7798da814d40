import type { Role } from '../access/caller.ts'
import type { Peer } from '../audit/entry.ts'

/** Who is on a connection, from accept to close. */
export type Session = {
  readonly peer: Peer
  /** May change while the connection lives: an entry is removed, a token is presented. */
  readonly role: Role
  /** The client entry that counts for it now; null for none. */
  readonly clientId: number | null
  /** The caller's own word for itself (session.hello), for the audit log. */
  client: string | null
  /** Set when the connection is to be closed after the answers made so far; nothing later is carried out. */
  closing: boolean
}
