import { chmodSync } from 'node:fs'
import net from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Role } from '../access/caller.ts'
import type { Door } from '../access/identity.ts'
import { nobody, type Session } from '../access/session.ts'
import type { Peer } from '../audit/entry.ts'
import { PurserError } from '../errors.ts'
import type { Dispatcher } from '../rpc/dispatcher.ts'
import type { HandOver } from '../rpc/hand-over.ts'
import { errorResponse, type Line } from '../rpc/line.ts'
import type { ConnectionHooks } from './connection.ts'
import { Connection } from './connection.ts'
import {
  acceptConnection,
  closeFd,
  duplicateFd,
  hasEnded,
  peerCredentials,
  peerGroups,
  sendAndClose,
} from './libc.ts'
import { peerProcess } from './peer-process.ts'
import { Shares } from './shares.ts'
import { type ListenOn, listenError, prepareSocketPath } from './socket-path.ts'
import { TurnQueue } from './turn-queue.ts'

/** Callers turned away that may take their time to read why; more are closed right behind the answer. */
const turnedAwayMax = 64
/** The same for callers of role none, so that a flood of them does not take it from the others. */
const strangersTurnedAwayMax = 16
/** Carried out in one turn of the event loop, so that they share a commit and none waits long for its turn. */
const turnRequestsMax = 256
const turnBytesMax = 256 * 1024
const overloadedRetryMs = 100
/** Answers of all connections that clients do not take; beyond it who is stuck longest is cut. */
const queuedBytesMax = 32 * 1024 * 1024
/**
 * Connections waiting to be accepted; the kernel caps it at net.core.somaxconn (4096 where nobody changed it). Where it
 * is full, connect(2) is EAGAIN for whoever does not wait.
 */
const backlog = 4096
/** Accepted on one socket in one turn of the event loop. Turning one away takes 15 us, so a turn some 8 ms of a flood. */
const acceptedPerTurnMax = 512
/**
 * Of those, how many get a connection, which takes ten times as long; others go on waiting, so that those that have
 * come and gone are counted out before they displace somebody.
 */
const admittedPerTurnMax = 64
/**
 * Of those, callers of role none. More of them wait for a turn in which these have had the time to present a token; for
 * so many turns, which come back within 4 s. Then they are Overloaded: else a flood of them would fill the queue.
 */
const strangersPerTurnMax = 16
const patienceMax = 32
const patienceMs = 4000
/** How often it is looked whether roles have changed without their connections having asked for anything. */
const recountMs = 100

/**
 * Who a new connection is, by its supplementary `groups` too, or that it is not to be served here. The session has
 * `peer` itself: what is told of its process is filled in where the connection is served.
 */
export type Identify = (peer: Peer, groups: readonly number[], door: Door) => Session | 'refused'

/** All connections, and the turns in which their requests are carried out. */
export class Listener {
  readonly #dispatcher: Dispatcher
  readonly #identify: Identify
  readonly #refused: (peer: Peer) => void
  readonly #afterTurn: () => void
  readonly #servers: net.Server[] = []
  readonly #shares = new Shares<Connection>()
  readonly #turnedAway = new Set<Connection>()
  readonly #hooks: ConnectionHooks
  readonly #queue = new TurnQueue<Connection>()
  readonly #isLarge: (line: Line) => boolean
  #isHanded = false
  #mainPath: string | null = null
  #accepted = 0
  #patience = patienceMax
  #patienceAtMs = performance.now()
  #scheduled = false
  #recountTimer: NodeJS.Timeout | null = null
  #queuedBytes = 0
  #draining = false
  /** Draining, and what was under way when it began is answered. */
  #closing = false
  #drained: (() => void) | null = null

  /** `afterTurn` commits what the requests of a turn have queued; `refused` hears of callers turned away at the door. */
  constructor(parts: {
    dispatcher: Dispatcher
    handOver: HandOver
    identify: Identify
    refused: (peer: Peer) => void
    afterTurn: () => void
  }) {
    this.#dispatcher = parts.dispatcher
    this.#identify = parts.identify
    this.#refused = parts.refused
    this.#afterTurn = parts.afterTurn
    this.#isLarge = (line) => this.#dispatcher.isLarge(line)
    this.#hooks = {
      handOver: parts.handOver,
      wake: (connection) => this.#wake(connection),
      closed: (connection) => this.#closed(connection),
      finished: (connection, line) => this.#finished(connection, line),
      queued: (bytes) => this.#queued(bytes),
    }
  }

  get connections(): number {
    return this.#shares.members.size
  }

  get inFlight(): number {
    return this.#shares.inFlight
  }

  /** Starts accepting; the admin socket is opened last. StartError 69 for a path held by a live daemon, 78 for one that will not do. */
  async listen(on: ListenOn, door: Door): Promise<void> {
    if ('path' in on) {
      await prepareSocketPath(on.path, door, this.#mainPath)
      if (door === 'main') this.#mainPath = on.path
    } else this.#isHanded = true
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) =>
      this.#acceptAll(server, socket, door),
    )
    const umask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen('path' in on ? { path: on.path, backlog } : { fd: on.fd, backlog }, resolve)
      })
      if ('path' in on) chmodSync(on.path, on.mode)
    } catch (error) {
      throw listenError(error, on, door)
    } finally {
      process.umask(umask)
    }
    // A connection that could not be accepted: its client is gone, or no descriptor is left.
    server.on('error', () => undefined)
    this.#servers.push(server)
  }

  /**
   * Stops accepting; requests under way are answered, new ones get Overloaded, and connections that have not taken
   * their answers after `graceMs` are cut. Resolves when none is left.
   */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true
    const timer = setTimeout(() => {
      for (const connection of [...this.#shares.members, ...this.#turnedAway]) connection.cut()
    }, graceMs)
    await this.#acceptWaiting()
    for (const server of this.#servers) server.close()
    const drained = new Promise<void>((resolve) => {
      this.#drained = resolve
    })
    if (this.inFlight === 0) this.#closeAll()
    this.#settleDrain()
    await drained
    clearTimeout(timer)
    if (this.#recountTimer !== null) clearTimeout(this.#recountTimer)
  }

  /**
   * Lets in who waits to be accepted: they would be reset. On a socket that was
   * handed over they go on waiting, for the next start.
   */
  async #acceptWaiting(): Promise<void> {
    if (this.#isHanded) return
    const accepted = this.#accepted
    await nextTurn()
    // No more than may wait when it begins: a flood would be let in for ever.
    for (let seen = -1; seen < this.#accepted && this.#accepted - accepted < backlog; ) {
      seen = this.#accepted
      await nextTurn()
    }
  }

  #closeAll(): void {
    this.#closing = true
    // The others have lines that wait for their turn and are Overloaded then.
    for (const connection of this.#shares.members) if (!connection.hasLines) connection.close()
  }

  #settleDrain(): void {
    if (this.connections + this.#turnedAway.size === 0) this.#drained?.()
  }

  /** Node accepts one connection in a turn; the others that wait are accepted here. */
  #acceptAll(server: net.Server, accepted: net.Socket, door: Door): void {
    let admitted = 0
    let strangers = 0
    let isPatient = true
    const accept = (fd: number) => {
      const role = this.#accept(fd, door, strangers < strangersPerTurnMax)
      if (role !== null) admitted++
      if (role === 'none') strangers++
    }
    const first = takeFd(accepted)
    if (first !== null) accept(first)
    const listeningFd = fdOf(server)
    for (let count = 1; count < acceptedPerTurnMax && admitted < admittedPerTurnMax; count++) {
      // Asked once in a turn: where they may wait, the turn is over.
      if (isPatient && strangers >= strangersPerTurnMax) {
        if (this.#mayWait()) return
        isPatient = false
      }
      const fd = listeningFd === null ? null : acceptConnection(listeningFd)
      if (fd === null) return
      accept(fd)
    }
  }

  /** Whether callers of role none may be left waiting for another turn. */
  #mayWait(): boolean {
    const nowMs = performance.now()
    const regained = ((nowMs - this.#patienceAtMs) / patienceMs) * patienceMax
    this.#patience = Math.min(patienceMax, this.#patience + regained)
    this.#patienceAtMs = nowMs
    if (this.#patience < 1) return false
    this.#patience--
    return true
  }

  /** Answers the role of a caller who got a connection, null for one who got none. */
  #accept(fd: number, door: Door, takesStrangers: boolean): Role | null {
    this.#accepted++
    const caller = hasEnded(fd) ? null : callerOf(fd)
    if (caller === null) {
      closeFd(fd)
      return null
    }
    const { peer, groups } = caller
    const session = this.#identify(peer, groups, door)
    if (session === 'refused') {
      Object.assign(peer, peerProcess(fd, peer.pid))
      this.#refused(peer)
      this.#turnAway(fd, nobody(peer), forbidden)
      return null
    }
    const isTaken = session.role !== 'none' || takesStrangers
    if (!isTaken || !this.#shares.makeRoom(session)) {
      this.#turnAway(fd, session, overloaded)
      return null
    }
    Object.assign(peer, peerProcess(fd, peer.pid))
    this.#shares.join(new Connection(fd, session, this.#hooks))
    return session.role
  }

  #turnAway(fd: number, session: Session, answer: Refusal): void {
    const most = session.role === 'none' ? strangersTurnedAwayMax : turnedAwayMax
    if (this.#turnedAway.size >= most) {
      sendAndClose(fd, answer.bytes)
      return
    }
    const connection = new Connection(fd, session, this.#hooks)
    this.#turnedAway.add(connection)
    connection.enqueue({ body: answer.body, guards: [], done: () => undefined })
    connection.write()
    connection.close()
  }

  #closed(connection: Connection): void {
    this.#shares.leave(connection)
    this.#turnedAway.delete(connection)
    this.#queue.delete(connection)
    this.#settleDrain()
  }

  #finished(connection: Connection, line: Line): void {
    this.#shares.discharge(connection, line)
    this.#recount(connection)
    if (this.#drained === null) return
    if (this.inFlight === 0 && !this.#closing) this.#closeAll()
    if (this.#closing && !connection.hasLines) connection.session.closing = true
  }

  /** Counts a connection as what it is now. Answers whether it has to go, and was told so. */
  #recount(connection: Connection): boolean {
    const change = this.#shares.recount(connection)
    if (change === 'unchanged') return false
    if (this.#queue.delete(connection)) this.#wake(connection)
    if (change === 'moved') return false
    connection.enqueue({ body: overloaded.body, guards: [], done: () => undefined })
    connection.close()
    return true
  }

  /** An entry that is removed or expires takes the role of connections that ask for nothing. */
  #recountAll(): void {
    this.#recountTimer = null
    for (const connection of [...this.#shares.members]) if (this.#recount(connection)) connection.write()
  }

  #queued(bytes: number): void {
    this.#queuedBytes += bytes
    while (this.#queuedBytes > queuedBytesMax) {
      let stuck: Connection | null = null
      for (const connection of this.#shares.members) {
        if (connection.queuedBytes === 0) continue
        if (stuck === null || connection.stuckSinceMs < stuck.stuckSinceMs) stuck = connection
      }
      if (stuck === null) return
      stuck.cut()
    }
  }

  #wake(connection: Connection): void {
    const holder = this.#shares.holderOf(connection)
    // Turned away, or displaced: nothing of it is carried out.
    if (holder === undefined) return
    this.#queue.add(connection, holder)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => this.#turn())
  }

  /** Lines in the order of the queue, up to the bound; then one commit for all of them. */
  #turn(): void {
    this.#scheduled = false
    this.#recountTimer ??= setTimeout(() => this.#recountAll(), recountMs).unref()
    this.#queue.begin()
    for (let requests = 0, bytes = 0; requests < turnRequestsMax && bytes < turnBytesMax; ) {
      const next = this.#queue.take(this.#isLarge)
      if (next === null) break
      const { connection, line } = next
      requests += line.requests
      bytes += line.bytes
      const fits = this.#shares.charge(connection, line)
      if (this.#draining || !fits) this.#dispatcher.refuse(connection, line, overloaded.error)
      else this.#dispatcher.dispatch(connection, line)
    }
    this.#afterTurn()
    if (this.#queue.size > 0) this.#schedule()
  }
}

/** An answer to a caller who is turned away, also as bytes for one who gets no connection. */
type Refusal = { readonly error: PurserError; readonly body: object; readonly bytes: Buffer }

function refusal(error: PurserError): Refusal {
  const body = errorResponse(null, error)
  return { error, body, bytes: Buffer.from(`${JSON.stringify(body)}\n`) }
}

const overloaded = refusal(new PurserError('Overloaded', { retryAfterMs: overloadedRetryMs }))
const forbidden = refusal(new PurserError('Forbidden', { scope: 'admin' }))

/** The kernel's word for who connected; null where it has none. */
function callerOf(fd: number): { peer: Peer; groups: number[] } | null {
  try {
    return { peer: { ...peerCredentials(fd), comm: null, unit: null }, groups: peerGroups(fd) }
  } catch {
    return null
  }
}

function fdOf(server: net.Server): number | null {
  const handle = (server as unknown as { _handle: { fd: number } | null })._handle
  return handle !== null && handle.fd >= 0 ? handle.fd : null
}

/**
 * The descriptor of an accepted connection, taken away from the socket Node made for it: that one reads into memory of
 * its own that nobody can wipe. null if the peer is gone already.
 */
function takeFd(accepted: net.Socket): number | null {
  const handle = (accepted as unknown as { _handle: { fd: number } | null })._handle
  if (handle === null || !(handle.fd >= 0)) {
    accepted.destroy()
    return null
  }
  try {
    return duplicateFd(handle.fd)
  } catch {
    // No descriptor is left: one connection less, not one daemon less.
    return null
  } finally {
    accepted.destroy()
  }
}
