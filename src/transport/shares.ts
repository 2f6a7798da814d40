import type { Role } from '../access/caller.ts'
import type { Line } from '../rpc/line.ts'

/** Connections of the whole daemon. */
const connectionsMax = 1000
/** Requests of all connections in flight, and the bytes of their lines, which parsed take up to 25 times as much. */
const inFlightMax = 16_384
const inFlightBytesMax = 8 * 1024 * 1024
/** Lines up to here, as nearly all are, do not suffer for the bytes of those who send long ones. */
const shortLineBytes = 512
/** What is kept for admins, so that someone can always freeze; and what one uid or client may have of it all. */
const quarter = 0.25
/** Connections of all callers of role none together: one user namespace can show 65,536 uids. */
const strangersMax = 64

/** Whose connection it is, at this moment. */
type Owner = {
  readonly role: Role
  readonly clientId: number | null
  readonly peer: { readonly uid: number }
}

/** A connection as its shares see it. */
export type Member = {
  readonly session: Owner
  /** Whether it has requests that are not answered. */
  readonly busy: boolean
  /** Of its last complete request, monotonic. */
  readonly lastRequestAtMs: number
  /** Drops it. */
  cut(): void
}

/** What some callers hold together, and may hold. */
export class Share<M extends Member = Member> {
  readonly isAdmin: boolean
  readonly members = new Set<M>()
  readonly connectionsMax: number
  readonly #inFlightMax: number
  readonly #inFlightBytesMax: number
  #requests = 0
  #bytes = 0

  /** `part` of the requests in flight of the whole daemon. */
  constructor(connections: number, part: number, isAdmin = false) {
    this.isAdmin = isAdmin
    this.connectionsMax = connections
    this.#inFlightMax = inFlightMax * part
    this.#inFlightBytesMax = inFlightBytesMax * part
  }

  get requests(): number {
    return this.#requests
  }

  get unused(): boolean {
    return this.members.size === 0 && this.#requests === 0
  }

  count(requests: number, bytes: number): void {
    this.#requests += requests
    this.#bytes += bytes
  }

  /** Whether it has taken more than it may, for who adds a line of so many bytes to it. */
  isExceeded(lineBytes: number): boolean {
    if (this.#requests > this.#inFlightMax) return true
    return this.#bytes > this.#inFlightBytesMax && lineBytes > shortLineBytes
  }
}

/** Where a connection is counted: by whom it is of, then in ever larger shares. */
type Seat<M extends Member> = {
  readonly role: Role
  readonly clientId: number | null
  readonly shares: readonly [holder: Share<M>, ...rest: Share<M>[]]
  requests: number
  bytes: number
}

/**
 * Who holds how much of what the daemon can bear, and who gives way to whom. A quarter of connections and of requests
 * in flight is kept for admins, callers of role none hold at most 64 connections together (and a quarter of what is in
 * flight), and no uid or client but an admin's more than a quarter. Where a newcomer would pass a bound, the idlest
 * connection below that bound gives way, but never one of somebody who holds less than the newcomer does: so who
 * floods the daemon displaces himself.
 */
export class Shares<M extends Member> {
  readonly #all = new Share<M>(connectionsMax, 1)
  readonly #notAdmins = new Share<M>(connectionsMax * (1 - quarter), 1 - quarter)
  readonly #strangers = new Share<M>(strangersMax, quarter)
  readonly #byUid = new Map<number, Share<M>>()
  readonly #byClient = new Map<number, Share<M>>()
  /** Without bounds of their own; only their turns are told apart. */
  readonly #admins = new Map<number, Share<M>>()
  readonly #seats = new Map<M, Seat<M>>()

  get members(): ReadonlySet<M> {
    return this.#all.members
  }

  get inFlight(): number {
    return this.#all.requests
  }

  /** How much is kept for those who are here: nothing for anybody else. */
  get figures(): { uids: number; clients: number; admins: number; seats: number } {
    const [uids, clients] = [this.#byUid.size, this.#byClient.size]
    return { uids, clients, admins: this.#admins.size, seats: this.#seats.size }
  }

  /** Whether there is room for a connection of this session, if need be in the place of others, which are cut. */
  makeRoom(session: Owner): boolean {
    const displaced: M[] = []
    const [holder, ...rest] = this.#sharesOf(session)
    for (const share of [holder, ...rest]) {
      const inIt = displaced.filter((member) => share.members.has(member))
      if (share.members.size - inIt.length < share.connectionsMax) continue
      const candidate =
        share === this.#strangers ? this.#idlestStranger(session) : this.#idlest(share, session)
      if (candidate === null) return false
      displaced.push(candidate)
    }
    for (const member of displaced) {
      this.leave(member)
      member.cut()
    }
    return true
  }

  /** Counts a connection for which there is room. */
  join(member: M): void {
    this.#take(member, 0, 0)
  }

  /** Counts a connection out. What it has in flight counts until it is answered. */
  leave(member: M): void {
    const seat = this.#seats.get(member)
    if (seat === undefined) return
    for (const share of seat.shares) share.members.delete(member)
    if (seat.requests === 0) this.#forget(member, seat)
  }

  /** Counts a line in; false where one of the shares it counts in is exceeded. Each is counted out by `discharge`. */
  charge(member: M, { requests, bytes }: Line): boolean {
    const seat = this.#seats.get(member)
    if (seat === undefined) return false
    seat.requests += requests
    seat.bytes += bytes
    let fits = true
    for (const share of seat.shares) {
      share.count(requests, bytes)
      if (share.isExceeded(bytes)) fits = false
    }
    return fits
  }

  discharge(member: M, { requests, bytes }: Line): void {
    const seat = this.#seats.get(member)
    if (seat === undefined) return
    seat.requests -= requests
    seat.bytes -= bytes
    for (const share of seat.shares) share.count(-requests, -bytes)
    if (seat.requests === 0 && !this.#all.members.has(member)) this.#forget(member, seat)
  }

  /** Whose turn a request of this connection takes. */
  holderOf(member: M): Share<M> | undefined {
    return this.#seats.get(member)?.shares[0]
  }

  /**
   * Counts a connection anew if its role or client has changed, with what it has in flight. `'no room'` where there is
   * none for what it has become: it is counted, but has to go.
   */
  recount(member: M): 'unchanged' | 'moved' | 'no room' {
    const seat = this.#seats.get(member)
    const { session } = member
    if (seat === undefined || !this.#all.members.has(member)) return 'unchanged'
    if (seat.role === session.role && seat.clientId === session.clientId) return 'unchanged'
    const { requests, bytes } = seat
    this.leave(member)
    for (const share of seat.shares) share.count(-requests, -bytes)
    this.#forget(member, seat)
    const hasRoom = this.makeRoom(session)
    this.#take(member, requests, bytes)
    return hasRoom ? 'moved' : 'no room'
  }

  #take(member: M, requests: number, bytes: number): void {
    const { role, clientId, peer } = member.session
    const shares = this.#sharesOf(member.session)
    for (const share of shares) {
      share.members.add(member)
      share.count(requests, bytes)
    }
    const [holder, ofUid] = shares
    if (role === 'admin') this.#admins.set(peer.uid, holder)
    else {
      this.#byUid.set(peer.uid, ofUid!)
      if (clientId !== null) this.#byClient.set(clientId, holder)
    }
    this.#seats.set(member, { role, clientId, shares, requests, bytes })
  }

  /** Those of a newcomer are kept when it joins: who is turned away must not leave anything behind. */
  #sharesOf({ role, clientId, peer }: Owner): [holder: Share<M>, ...rest: Share<M>[]] {
    if (role === 'admin')
      return [this.#admins.get(peer.uid) ?? new Share<M>(Number.POSITIVE_INFINITY, 1, true), this.#all]
    const ofUid = this.#byUid.get(peer.uid) ?? quarterShare<M>()
    const holder =
      role === 'none' || clientId === null
        ? this.#strangers
        : (this.#byClient.get(clientId) ?? quarterShare<M>())
    return [holder, ofUid, this.#notAdmins, this.#all]
  }

  #forget(member: M, seat: Seat<M>): void {
    this.#seats.delete(member)
    const { peer } = member.session
    forgetUnused(this.#byUid, peer.uid)
    forgetUnused(this.#admins, peer.uid)
    if (seat.clientId !== null) forgetUnused(this.#byClient, seat.clientId)
  }

  /** Who gives way in `share`: nobody who is being served, nor who holds less than the newcomer does. */
  #idlest(share: Share<M>, newcomer: Owner): M | null {
    const shared = share === this.#all || share === this.#notAdmins
    const atLeast = shared && newcomer.role !== 'admin' ? heldBy(this.#sharesOf(newcomer)) : 0
    let idlest: M | null = null
    for (const member of share.members) {
      if (member.busy) continue
      if (idlest !== null && member.lastRequestAtMs >= idlest.lastRequestAtMs) continue
      if (atLeast > 0 && heldBy(this.#seats.get(member)!.shares) < atLeast) continue
      idlest = member
    }
    return idlest
  }

  /**
   * Who of the callers of role none gives way: one of the uid that holds most. Where that is more than the newcomer's
   * holds even one that is being served, for else a few that never stop asking would keep out everybody who is about to
   * present a token.
   */
  #idlestStranger(newcomer: Owner): M | null {
    const held = new Map<number, number>()
    for (const { session } of this.#strangers.members) {
      held.set(session.peer.uid, (held.get(session.peer.uid) ?? 0) + 1)
    }
    const most = Math.max(...held.values())
    const mayBeBusy = most > (held.get(newcomer.peer.uid) ?? 0)
    let chosen: M | null = null
    for (const member of this.#strangers.members) {
      if (held.get(member.session.peer.uid) !== most || (member.busy && !mayBeBusy)) continue
      if (chosen === null || isIdler(member, chosen)) chosen = member
    }
    return chosen
  }
}

/** Of two that are being served the one that is first asked is here longer. */
function isIdler(a: Member, b: Member): boolean {
  return a.busy ? false : b.busy || a.lastRequestAtMs < b.lastRequestAtMs
}

/** Connections of the uid or the client of a seat, whichever has more. An admin's are the last of which there is need. */
function heldBy<M extends Member>(shares: readonly Share<M>[]): number {
  const [holder, ofUid] = shares
  return shares.length === 2 ? Number.POSITIVE_INFINITY : Math.max(holder!.members.size, ofUid!.members.size)
}

function quarterShare<M extends Member>(): Share<M> {
  return new Share<M>(connectionsMax * quarter, quarter)
}

function forgetUnused<M extends Member>(map: Map<number, Share<M>>, key: number): void {
  if (map.get(key)?.unused) map.delete(key)
}
