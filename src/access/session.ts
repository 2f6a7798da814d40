import { hash } from 'node:crypto'
import type { Peer } from '../audit/entry.ts'
import { PurserError } from '../errors.ts'
import type { SecretBytes } from '../secret.ts'
import type { Role } from './caller.ts'
import { ClientDirectory, type KernelWord } from './directory.ts'
import { type Door, Identity, type IdentityRules, isAdminUid } from './identity.ts'

/** Who is on a connection, from accept to close. */
export class Session {
  readonly peer: Peer
  readonly #word: KernelWord
  readonly #rules: IdentityRules
  #identity: Identity
  /** The caller's own word for itself (session.hello), for the audit log. */
  client: string | null = null
  /** Set when the connection is to be closed after the answers made so far; nothing later is carried out. */
  closing = false

  /** `groups` are the supplementary ones. */
  constructor(peer: Peer, groups: readonly number[], door: Door, rules: IdentityRules) {
    this.peer = peer
    this.#rules = rules
    this.#word = {
      uid: peer.uid,
      gids: groups.includes(peer.gid) ? groups : [peer.gid, ...groups],
      adminCounts: !rules.hasAdminSocket || door === 'admin',
    }
    this.#identity = new Identity({
      word: this.#word,
      rules,
      isAdminUid: isAdminUid(peer.uid, door, rules),
      tokenClientId: null,
    })
  }

  /** Whose request the next one is. A request keeps it: what session.hello changes counts for those behind it. */
  get identity(): Identity {
    return this.#identity
  }

  /** The role at this moment. */
  get role(): Role {
    return this.#identity.role
  }

  /** The client entry that counts at this moment, null where none does. */
  get clientId(): number | null {
    return this.#identity.clientId
  }

  /**
   * Takes the token's entry for the rest of the connection. Forbidden for one that is wrong or expired, that another uid
   * or group than its entry names presents, or that is a second, different one; then nothing later is carried out.
   */
  present(token: SecretBytes): void {
    const entry = this.#rules.directory.ofToken(hash('sha256', token.bytes, 'buffer'), this.#word)
    const before = this.#identity.tokenClientId
    if (entry === null || (before !== null && before !== entry.clientId)) {
      this.closing = true
      throw new PurserError('Forbidden', { scope: null }, { message: 'the token is not valid' })
    }
    if (before !== null) return
    this.#identity = new Identity({
      word: this.#word,
      rules: this.#rules,
      isAdminUid: false,
      tokenClientId: entry.clientId,
    })
  }
}

/** Who a new connection is, or that it is not to be served at this door. `groups` are the supplementary ones. */
export function identify(
  peer: Peer,
  groups: readonly number[],
  door: Door,
  rules: IdentityRules,
): Session | 'refused' {
  const session = new Session(peer, groups, door, rules)
  return door === 'admin' && session.role !== 'admin' ? 'refused' : session
}

const nobodyRules: IdentityRules = {
  ownUid: -1,
  overflow: { uid: -1, gid: -1 },
  hasAdminSocket: true,
  directory: new ClientDirectory({ uid: -1, gid: -1 }, () => 0),
  admitsRefusal: () => false,
}

/** Somebody who is turned away: no entry ever counts. */
export function nobody(peer: Peer): Session {
  return new Session(peer, [], 'main', nobodyRules)
}
