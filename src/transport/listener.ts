import { chmodSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs'
import net from 'node:net'
import { dirname } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Door } from '../access/caller.ts'
import type { Peer } from '../audit/entry.ts'
import { PurserError, StartError } from '../errors.ts'
import type { Dispatcher } from '../rpc/dispatcher.ts'
import type { HandOver } from '../rpc/hand-over.ts'
import { errorResponse, type Line } from '../rpc/line.ts'
import type { Session } from '../rpc/session.ts'
import type { ConnectionHooks } from './connection.ts'
import { Connection } from './connection.ts'
import { duplicateFd, peerCredentials, peerGroups } from './libc.ts'
import { peerProcess } from './peer-process.ts'

const connectionsMax = 1000
/** Callers turned away that may take their time to read why; more are closed right behind the answer. */
const turnedAwayMax = 64
/**
 * Requests of all connections in flight, and the bytes of their lines, which parsed take up to 25 times as much; beyond
 * either they are Overloaded at once. Short lines, as nearly all are, do not suffer for those who send long ones.
 */
const inFlightMax = 16_384
const inFlightBytesMax = 8 * 1024 * 1024
const shortLineBytes = 512
/** Carried out in one turn of the event loop, so that they share a commit and none waits long for its turn. */
const turnRequestsMax = 256
const turnBytesMax = 256 * 1024
const overloadedRetryMs = 100
/** Answers of all connections that clients do not take; beyond it who is stuck longest is cut. */
const queuedBytesMax = 32 * 1024 * 1024
/** Connections waiting to be accepted. */
const backlog = 1024

export type ListenOn = { readonly fd: number } | { readonly path: string; readonly mode: number }

/** Who a new connection is, by its supplementary `groups` too, or that it is not to be served here. */
export type Identify = (peer: Peer, groups: readonly number[], door: Door) => Session | 'refused'

/** All connections, and the turns in which their requests are carried out. */
export class Listener {
  readonly #dispatcher: Dispatcher
  readonly #identify: Identify
  readonly #refused: (peer: Peer) => void
  readonly #afterTurn: () => void
  readonly #servers: net.Server[] = []
  readonly #connections = new Set<Connection>()
  readonly #turnedAway = new Set<Connection>()
  readonly #hooks: ConnectionHooks
  readonly #waiting = new Set<Connection>()
  #isHanded = false
  #accepted = 0
  #scheduled = false
  #inFlight = 0
  #inFlightBytes = 0
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
    this.#hooks = {
      handOver: parts.handOver,
      wake: (connection) => this.#wake(connection),
      closed: (connection) => this.#closed(connection),
      finished: (connection, line) => this.#finished(connection, line),
      queued: (bytes) => this.#queued(bytes),
    }
  }

  get connections(): number {
    return this.#connections.size
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** Starts accepting. StartError 69 for a path held by a live daemon, 78 for one that is no socket's place. */
  async listen(on: ListenOn, door: Door): Promise<void> {
    if ('path' in on) await clearPath(on.path)
    else this.#isHanded = true
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) =>
      this.#accept(socket, door),
    )
    const umask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen('path' in on ? { path: on.path, backlog } : { fd: on.fd, backlog }, resolve)
      })
      if ('path' in on) chmodSync(on.path, on.mode)
    } catch (error) {
      throw listenError(error, on)
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
      for (const connection of [...this.#connections, ...this.#turnedAway]) connection.cut()
    }, graceMs)
    await this.#acceptWaiting()
    for (const server of this.#servers) server.close()
    const drained = new Promise<void>((resolve) => {
      this.#drained = resolve
    })
    if (this.#inFlight === 0) this.#closeAll()
    this.#settleDrain()
    await drained
    clearTimeout(timer)
  }

  /**
   * Lets in who waits to be accepted, one in each turn, as libuv does it: they would be reset. On a socket that was
   * handed over they go on waiting, for the next start.
   */
  async #acceptWaiting(): Promise<void> {
    if (this.#isHanded) return
    await nextTurn()
    for (let turn = 0, seen = -1; turn < backlog && seen < this.#accepted; turn++) {
      seen = this.#accepted
      await nextTurn()
    }
  }

  #closeAll(): void {
    this.#closing = true
    // The others have lines that wait for their turn and are Overloaded then.
    for (const connection of this.#connections) if (!connection.hasLines) connection.close()
  }

  #settleDrain(): void {
    if (this.#connections.size + this.#turnedAway.size === 0) this.#drained?.()
  }

  #accept(accepted: net.Socket, door: Door): void {
    const fd = takeFd(accepted)
    if (fd === null) return
    this.#accepted++
    const credentials = peerCredentials(fd)
    const peer = { ...credentials, ...peerProcess(fd, credentials.pid) }
    const identity = this.#identify(peer, peerGroups(fd), door)
    const connection = new Connection(fd, identity === 'refused' ? stranger(peer) : identity, this.#hooks)
    if (identity === 'refused') {
      this.#refused(peer)
      this.#turnAway(connection, new PurserError('Forbidden', { scope: 'admin' }))
    } else if (this.#makeRoom()) this.#connections.add(connection)
    else this.#turnAway(connection, overloaded())
  }

  #turnAway(connection: Connection, error: PurserError): void {
    const crowded = this.#turnedAway.size >= turnedAwayMax
    this.#turnedAway.add(connection)
    connection.enqueue({ body: errorResponse(null, error), guards: [], done: () => undefined })
    connection.write()
    if (crowded) connection.cut()
    else connection.close()
  }

  #closed(connection: Connection): void {
    this.#connections.delete(connection)
    this.#turnedAway.delete(connection)
    this.#waiting.delete(connection)
    this.#settleDrain()
  }

  #finished(connection: Connection, line: Line): void {
    this.#inFlight -= line.requests
    this.#inFlightBytes -= line.bytes
    if (this.#drained === null) return
    if (this.#inFlight === 0 && !this.#closing) this.#closeAll()
    if (this.#closing && !connection.hasLines) connection.session.closing = true
  }

  #queued(bytes: number): void {
    this.#queuedBytes += bytes
    while (this.#queuedBytes > queuedBytesMax) {
      let stuck: Connection | null = null
      for (const connection of this.#connections) {
        if (connection.queuedBytes === 0) continue
        if (stuck === null || connection.stuckSinceMs < stuck.stuckSinceMs) stuck = connection
      }
      if (stuck === null) return
      stuck.cut()
    }
  }

  /** Whether there is room for one more, if need be in the place of the one that is longest without a request. */
  #makeRoom(): boolean {
    if (this.#connections.size < connectionsMax) return true
    let idlest: Connection | null = null
    for (const connection of this.#connections) {
      if (connection.busy) continue
      if (idlest === null || connection.lastRequestAtMs < idlest.lastRequestAtMs) idlest = connection
    }
    idlest?.cut()
    if (idlest !== null) this.#connections.delete(idlest)
    return idlest !== null
  }

  #wake(connection: Connection): void {
    this.#waiting.add(connection)
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => this.#turn())
  }

  /** One request of each connection in turn, round and round, up to the bound; then one commit for all of them. */
  #turn(): void {
    this.#scheduled = false
    const isLarge = (line: Line) => this.#dispatcher.isLarge(line)
    let requests = 0
    let bytes = 0
    while (requests < turnRequestsMax && bytes < turnBytesMax && this.#waiting.size > 0) {
      for (const connection of this.#waiting) {
        const line = connection.next(isLarge)
        if (line === undefined) {
          this.#waiting.delete(connection)
          continue
        }
        requests += line.requests
        bytes += line.bytes
        this.#carryOut(connection, line)
        if (requests >= turnRequestsMax || bytes >= turnBytesMax) {
          // To the end of the line: who was served last in this turn is not first in the next.
          this.#waiting.delete(connection)
          this.#waiting.add(connection)
          break
        }
      }
    }
    this.#afterTurn()
    if (this.#waiting.size > 0 && !this.#scheduled) {
      this.#scheduled = true
      setImmediate(() => this.#turn())
    }
  }

  #carryOut(connection: Connection, line: Line): void {
    this.#inFlight += line.requests
    this.#inFlightBytes += line.bytes
    const isShort = line.bytes <= shortLineBytes
    const full = this.#inFlight > inFlightMax || (this.#inFlightBytes > inFlightBytesMax && !isShort)
    if (this.#draining || full) this.#dispatcher.refuse(connection, line, overloaded())
    else this.#dispatcher.dispatch(connection, line)
  }
}

function overloaded(): PurserError {
  return new PurserError('Overloaded', { retryAfterMs: overloadedRetryMs })
}

/** The session of a caller who is only told that he is refused. */
function stranger(peer: Peer): Session {
  return { peer, role: 'none', clientId: null, client: null, closing: false }
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

/** Makes the directory, and removes a socket nobody listens on any more. */
async function clearPath(path: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const found = lstatSync(path, { throwIfNoEntry: false })
    if (found === undefined) return
    if (!found.isSocket()) {
      throw new StartError(
        'config',
        `${path} exists and is no socket`,
        'remove it, or name another path with --socket',
      )
    }
    if (await answers(path)) {
      throw new StartError(
        'storeUnusable',
        `the socket ${path} is held by a live daemon`,
        'stop it, or name another path with --socket',
      )
    }
    unlinkSync(path)
  } catch (error) {
    throw listenError(error, { path })
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    // Anything but "nobody listens" may be a live daemon that is full or not ours to ask.
    probe.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    )
  })
}

function listenError(error: unknown, on: { readonly path: string } | ListenOn): StartError {
  if (error instanceof StartError) return error
  const where = 'path' in on ? on.path : `the handed socket ${on.fd}`
  const { code = '', message } = error as NodeJS.ErrnoException
  return new StartError(
    'storeUnusable',
    `cannot listen on ${where}: ${code === 'EACCES' ? 'permission denied' : code === 'EADDRINUSE' ? 'in use' : message}`,
    'name another path with --socket, in a directory this uid may write',
    error,
  )
}
