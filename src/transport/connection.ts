import net from 'node:net'
import { PurserError } from '../errors.ts'
import type { Asker } from '../rpc/dispatcher.ts'
import type { HandOver, HeldAnswer, Outgoing } from '../rpc/hand-over.ts'
import { type Line, requestsIn, wipeSecrets } from '../rpc/line.ts'
import type { Session } from '../rpc/session.ts'
import { offHeap } from '../secret.ts'
import { LineBuffer, lineBytesMax } from './line-buffer.ts'
import { encodeFrame, parseLine } from './secret-json.ts'

/**
 * Requests of one connection in flight (batch members count), and the bytes of their lines; beyond either the next
 * line waits, and while a line waits purser does not read on.
 */
const inFlightMax = 256
const inFlightBytesMax = 256 * 1024
/** Lines that wait are parsed ahead of their turn up to so many bytes: parsed, a line takes up to 25 times its bytes. */
const parsedBytesMax = 4096
/** Answers queued behind a slow reader before its further requests have to wait. */
const queuedBytesMax = 256 * 1024
/** How long a connection that was ended may leave its own end open before it is cut. */
const lingerMs = 1000
/** setTimeout fires at once beyond this. */
const timerMsMax = 2 ** 31 - 1

const openBrace = 0x7b
const openBracket = 0x5b
/** `METHOD target HTTP/x`: a browser or a misdirected client, and nothing more of what it says is looked at. */
const httpRequestLine = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^ ]+ HTTP\/\d/

/** One buffer that every connection reads into; its bytes are used up and wiped before the next read. */
const readBuffer = offHeap(65_536)

export type ConnectionHooks = {
  readonly handOver: HandOver
  /** Lines were queued, or may be taken again. */
  wake(connection: Connection): void
  closed(connection: Connection): void
  /** A line was answered. */
  finished(connection: Connection, line: Line): void
  /** So many bytes more (below 0: less) of answers wait here for the kernel to take them. */
  queued(bytes: number): void
}

/** A frame with secrets in Node's queue, and what cuts the connection when one of them expires there. */
type QueuedSecrets = HeldAnswer & { timer: NodeJS.Timeout | null }

/** One client: bytes to lines to messages, answers to bytes, with every bound of section 1 of the protocol. */
export class Connection implements Asker {
  readonly session: Session
  readonly #socket: net.Socket
  readonly #hooks: ConnectionHooks
  readonly #lines = new LineBuffer()
  /** Lines that were parsed ahead of their turn. */
  readonly #parsed: Line[] = []
  #parsedBytes = 0
  /** There may be whole lines in #lines, so nothing is read. */
  #paused = false
  #inFlight = 0
  #inFlightBytes = 0
  #largeUnderWay: Line | null = null
  #outgoing: Outgoing[] = []
  /** The peer has ended its side, or what comes is not looked at any more. */
  #inputEnded = false
  #ending = false
  #countedBytes = 0
  /** When the last complete request came (at first: when the connection did), monotonic. */
  lastRequestAtMs = performance.now()
  /** While answers are queued: since when the kernel has taken none of them, monotonic. */
  stuckSinceMs = 0

  /** Takes over `fd`, a connected stream socket of its own. */
  constructor(fd: number, session: Session, hooks: ConnectionHooks) {
    this.session = session
    this.#hooks = hooks
    this.#socket = new net.Socket({
      fd,
      allowHalfOpen: true,
      readable: true,
      writable: true,
      onread: { buffer: readBuffer, callback: (length) => this.#onBytes(length) },
    } as net.SocketConstructorOpts)
    this.#socket.on('error', () => this.cut())
    this.#socket.on('end', () => this.#onEnd())
    this.#socket.on('drain', () => this.#hooks.wake(this))
    this.#socket.on('close', () => this.#onClose())
    this.#socket.resume()
  }

  /** Whether there are lines that are not answered. An answer that was made but not taken does not count. */
  get hasLines(): boolean {
    return this.#inFlight > 0 || this.#linesWait
  }

  /** The same but for lines that wait only because the peer does not take its answers. */
  get busy(): boolean {
    return this.#inFlight > 0 || (this.#linesWait && this.queuedBytes <= queuedBytesMax)
  }

  get #linesWait(): boolean {
    return this.#parsed.length > 0 || this.#paused
  }

  get destroyed(): boolean {
    return this.#socket.destroyed
  }

  /** Bytes of answers that the kernel has not taken. */
  get queuedBytes(): number {
    return this.destroyed ? 0 : this.#socket.writableLength
  }

  /** The next line to carry out, or undefined while there is none or the connection has to wait. */
  next(isLarge: (line: Line) => boolean): Line | undefined {
    if (this.session.closing || this.queuedBytes > queuedBytesMax) return undefined
    if (this.#parsed.length === 0 && this.#paused) this.#takeWaiting()
    const line = this.#parsed[0]
    if (line === undefined) return undefined
    // Members of a batch begin late where one can be large: nothing behind it, a session.hello above all, goes before.
    if (Array.isArray(this.#largeUnderWay?.value)) return undefined
    const { requests, bytes } = line
    const full = this.#inFlight + requests > inFlightMax || this.#inFlightBytes + bytes > inFlightBytesMax
    if (full && this.#inFlight > 0) return undefined
    if (isLarge(line)) {
      if (this.#largeUnderWay !== null) return undefined
      this.#largeUnderWay = line
    }
    this.#inFlight += requests
    this.#inFlightBytes += bytes
    this.#parsedBytes -= bytes
    return this.#parsed.shift()
  }

  /** `line` is answered; `write` follows. */
  finished(line: Line): void {
    this.#inFlight -= line.requests
    this.#inFlightBytes -= line.bytes
    if (line === this.#largeUnderWay) this.#largeUnderWay = null
    this.#hooks.finished(this, line)
  }

  enqueue(outgoing: Outgoing): void {
    this.#outgoing.push(outgoing)
  }

  /** Encodes what was enqueued into one frame, gives it to the kernel, and goes on with what had to wait for that. */
  write(): void {
    const outgoing = this.#outgoing
    this.#outgoing = []
    if (outgoing.length > 0 && !this.destroyed && this.#socket.writable) this.#send(outgoing)
    else for (const { done } of outgoing) done()
    if (this.#linesWait) this.#hooks.wake(this)
    this.#endIfDone()
  }

  #send(outgoing: readonly Outgoing[]): void {
    const { bytes, hasSecrets } = encodeFrame(outgoing.map(({ body }) => body))
    for (const { done } of outgoing) done()
    let held: QueuedSecrets | null = null
    this.#socket.write(bytes, () => {
      if (hasSecrets) bytes.fill(0)
      if (held !== null) this.#letGo(held)
      this.#countQueued()
    })
    // The socket counts down at once what the kernel took; anything left is queued here, where it can still be revoked.
    if (this.#socket.writableLength === 0) return
    if (outgoing.some(({ guards }) => guards.length > 0)) held = this.#holdQueued(outgoing)
    this.#countQueued()
  }

  #countQueued(): void {
    const bytes = this.queuedBytes
    const more = bytes - this.#countedBytes
    if (more === 0) return
    if (more < 0 || this.#countedBytes === 0) this.stuckSinceMs = performance.now()
    this.#countedBytes = bytes
    this.#hooks.queued(more)
  }

  #holdQueued(outgoing: readonly Outgoing[]): QueuedSecrets {
    const guards = outgoing.flatMap(({ guards }) => guards)
    const held: QueuedSecrets = { guards, broken: () => this.cut(), timer: null }
    this.#hooks.handOver.hold(held)
    const expiry = Math.min(...guards.map(({ expiresAtMs }) => expiresAtMs ?? Number.POSITIVE_INFINITY))
    if (expiry < Number.POSITIVE_INFINITY) this.#cutAt(expiry, held)
    return held
  }

  #letGo(held: QueuedSecrets): void {
    this.#hooks.handOver.letGo(held)
    if (held.timer !== null) clearTimeout(held.timer)
  }

  /** Closes the connection at `atMs` of the wall clock if `held` was not let go by then. */
  #cutAt(atMs: number, held: QueuedSecrets): void {
    held.timer = setTimeout(
      () => (Date.now() >= atMs ? this.cut() : this.#cutAt(atMs, held)),
      Math.min(Math.max(0, atMs - Date.now()), timerMsMax),
    )
  }

  /** Takes no more requests; ends once the answers made so far are out. */
  close(): void {
    this.session.closing = true
    this.#endIfDone()
  }

  /** Drops the connection and every answer that is still here. */
  cut(): void {
    this.session.closing = true
    this.#socket.destroy()
    this.#countQueued()
  }

  #dropLines(): void {
    for (const line of this.#parsed.splice(0)) wipeSecrets(line)
    this.#parsedBytes = 0
    this.#lines.clear()
    if (this.#paused) this.#readOn()
  }

  #endIfDone(): void {
    if (this.session.closing) this.#dropLines()
    if (this.#ending || this.#inFlight > 0 || this.#outgoing.length > 0) return
    if (this.#linesWait || !(this.session.closing || this.#inputEnded)) return
    this.#ending = true
    // Input goes on being read and dropped, so that the peer reads its last answer and not a reset.
    this.#socket.end(() => {
      if (this.destroyed) return
      const timer = setTimeout(() => this.cut(), lingerMs)
      this.#socket.once('close', () => clearTimeout(timer))
    })
  }

  /** Answers whether to read on. */
  #onBytes(length: number): boolean {
    const bytes = readBuffer.subarray(0, length)
    try {
      if (this.session.closing || this.#inputEnded) return true
      this.#lines.push(bytes)
      this.#parseAhead()
    } finally {
      bytes.fill(0)
    }
    if (this.#linesWait) this.#hooks.wake(this)
    if (this.#paused) return false
    if (length < readBuffer.length) return true
    // There is more, and libuv would hand over 32 such chunks before anybody else has a turn.
    setImmediate(() => {
      if (!this.#paused) this.#readOn()
    })
    return false
  }

  #parseAhead(): void {
    for (;;) {
      const line = this.#lines.take(parsedBytesMax - this.#parsedBytes)
      this.#paused = line === 'later'
      if (line === null || line === 'later') break
      this.#onLine(line)
    }
    this.#lines.compact()
  }

  /** Parses one more line; where there is none, reads on. */
  #takeWaiting(): void {
    const line = this.#lines.take(lineBytesMax)
    if (line !== null && line !== 'later') this.#onLine(line)
    else {
      this.#lines.compact()
      this.#readOn()
    }
  }

  #onLine(line: Buffer | 'too-long'): void {
    if (line === 'too-long' || isHttp(line)) {
      this.#add(notJson(line === 'too-long' ? 'FrameTooLarge' : 'ParseError', 0))
      // Nothing more of what comes is looked at; what came before is still answered.
      this.#inputEnded = true
      this.#lines.clear()
      if (this.#paused) this.#readOn()
      return
    }
    const bytes = line.length
    const parsed = parseLine(line)
    line.fill(0)
    if (parsed === null) this.#add(notJson('ParseError', bytes))
    else {
      this.lastRequestAtMs = performance.now()
      const { value, issues, secrets } = parsed
      this.#add({ value, issues, secrets, error: null, requests: requestsIn(value), bytes })
    }
  }

  #add(line: Line): void {
    this.#parsed.push(line)
    this.#parsedBytes += line.bytes
  }

  #readOn(): void {
    this.#paused = false
    if (!this.destroyed) this.#socket.resume()
  }

  #onEnd(): void {
    this.#inputEnded = true
    // What came after the last newline is no line.
    this.#lines.clear()
    this.#endIfDone()
  }

  #onClose(): void {
    this.session.closing = true
    this.#dropLines()
    for (const { done } of this.#outgoing.splice(0)) done()
    this.#countQueued()
    this.#hooks.closed(this)
  }
}

function isHttp(line: Buffer): boolean {
  // What JSON-RPC begins with is no HTTP method: one look at nearly every line.
  if (line[0] === openBrace || line[0] === openBracket) return false
  return httpRequestLine.test(line.toString('latin1'))
}

function notJson(type: 'ParseError' | 'FrameTooLarge', bytes: number): Line {
  return { value: null, issues: null, secrets: [], error: new PurserError(type), requests: 1, bytes }
}
