import net from 'node:net'
import { PurserError } from '../errors.ts'
import type { Asker, ParsedMessage } from '../rpc/dispatcher.ts'
import { errorResponse, requestsIn } from '../rpc/dispatcher.ts'
import type { HandOver, HeldAnswer, Outgoing } from '../rpc/hand-over.ts'
import type { Session } from '../rpc/session.ts'
import { offHeap } from '../secret.ts'
import { LineBuffer } from './line-buffer.ts'
import { encodeFrame, parseLine } from './secret-json.ts'

/** Requests of one connection in flight (batch members count); beyond it purser stops reading the connection. */
const inFlightMax = 256
/** Answers queued behind a slow reader before its further requests have to wait. */
const queuedBytesMax = 256 * 1024
/** How long a connection that is to be closed may take to read its last answers. */
const lingerMs = 1000
/** setTimeout fires at once beyond this. */
const timerMsMax = 2 ** 31 - 1

const newline = 0x0a
/** An HTTP request line: a browser or a misdirected client, and no more of what it says is looked at. */
const httpLineBytesMax = 4200
const httpRequestLine = /^[A-Za-z]{1,32} \S{1,4096} HTTP\/\d/

/** One buffer that every connection reads into; its bytes are used up and wiped before the next read. */
const readBuffer = offHeap(65_536)

export type ConnectionHooks = {
  readonly handOver: HandOver
  /** Lines were queued, or may be taken again. */
  wake(connection: Connection): void
  closed(connection: Connection): void
  /** Requests were answered. */
  finished(connection: Connection, requests: number): void
  /** An answer that no request asked for. */
  answerOutside(connection: Connection, response: object, requests: number): void
}

export type QueuedLine = { readonly message: ParsedMessage; readonly requests: number }

/** One client: bytes to lines to messages, answers to bytes, with every bound of section 1 of the protocol. */
export class Connection implements Asker {
  readonly session: Session
  readonly #socket: net.Socket
  readonly #hooks: ConnectionHooks
  readonly #lines = new LineBuffer()
  readonly #queue: QueuedLine[] = []
  #outgoing: Outgoing[] = []
  #inFlight = 0
  #largeUnderWay = 0
  #paused = false
  #inputEnded = false
  #ending = false
  /** When the last complete request came (at first: when the connection did), monotonic. */
  lastRequestAtMs = performance.now()

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

  /** Requests not yet answered. An answer that was made but not taken does not count. */
  get inFlight(): number {
    return this.#inFlight
  }

  get destroyed(): boolean {
    return this.#socket.destroyed
  }

  /** Bytes of answers that the kernel has not taken. */
  get queuedBytes(): number {
    return this.#socket.writableLength
  }

  /** The next line to carry out, or undefined while there is none or the connection has to wait. */
  next(isLarge: (message: ParsedMessage) => boolean): QueuedLine | undefined {
    const first = this.#queue[0]
    if (first === undefined || this.session.closing || this.queuedBytes > queuedBytesMax) return undefined
    if (isLarge(first.message)) {
      if (this.#largeUnderWay > 0) return undefined
      this.#largeUnderWay += first.requests
    }
    return this.#queue.shift()
  }

  /** `requests` of this connection are answered. */
  finished(requests: number): void {
    this.#inFlight -= requests
    this.#hooks.finished(this, requests)
    if (this.#largeUnderWay > 0) this.#largeUnderWay = Math.max(0, this.#largeUnderWay - requests)
    if (this.#paused && this.#inFlight < inFlightMax) this.#continue()
    if (this.#queue.length > 0) this.#hooks.wake(this)
  }

  enqueue(outgoing: Outgoing): void {
    this.#outgoing.push(outgoing)
  }

  /** Encodes what was enqueued into one frame and gives it to the kernel. */
  write(): void {
    const outgoing = this.#outgoing
    this.#outgoing = []
    if (outgoing.length > 0 && !this.destroyed && this.#socket.writable) this.#send(outgoing)
    else for (const { done } of outgoing) done()
    this.#endIfDone()
  }

  #send(outgoing: readonly Outgoing[]): void {
    const { bytes, hasSecrets } = encodeFrame(outgoing.map(({ body }) => body))
    for (const { done } of outgoing) done()
    let held: HeldAnswer | null = null
    this.#socket.write(bytes, () => {
      if (hasSecrets) bytes.fill(0)
      if (held !== null) this.#hooks.handOver.letGo(held)
    })
    // The socket counts down at once what the kernel took; anything left is queued here, where it can still be revoked.
    if (hasSecrets && this.#socket.writableLength > 0) held = this.#holdQueued(outgoing)
  }

  #holdQueued(outgoing: readonly Outgoing[]): HeldAnswer {
    const held: HeldAnswer = { guards: outgoing.flatMap(({ guards }) => guards), broken: () => this.cut() }
    this.#hooks.handOver.hold(held)
    const expiry = Math.min(...held.guards.map(({ expiresAtMs }) => expiresAtMs ?? Number.POSITIVE_INFINITY))
    if (expiry < Number.POSITIVE_INFINITY) this.#cutAt(expiry)
    return held
  }

  /** Closes the connection at `atMs` of the wall clock if what was queued then is still queued. */
  #cutAt(atMs: number): void {
    const written = this.#socket.bytesWritten
    const timer = setTimeout(
      () => {
        const stillQueued = this.#socket.bytesWritten - this.queuedBytes < written
        if (this.destroyed || !stillQueued) return
        if (Date.now() >= atMs) this.cut()
        else this.#cutAt(atMs)
      },
      Math.min(Math.max(0, atMs - Date.now()), timerMsMax),
    )
    this.#socket.once('close', () => clearTimeout(timer))
  }

  /** Takes no more requests; ends once the answers made so far are out. */
  close(): void {
    this.session.closing = true
    this.#dropQueue()
    this.#endIfDone()
  }

  /** Drops the connection and every answer that is still here. */
  cut(): void {
    this.#socket.destroy()
  }

  #dropQueue(): void {
    for (const { message, requests } of this.#queue.splice(0)) {
      for (const secret of message.secrets) secret.wipe()
      this.#inFlight -= requests
    }
    this.#lines.clear()
  }

  #endIfDone(): void {
    if (this.session.closing) this.#dropQueue()
    if (this.#ending || this.#inFlight > 0 || this.#outgoing.length > 0) return
    if (!this.session.closing && !(this.#inputEnded && this.#lines.length === 0)) return
    this.#ending = true
    this.#socket.end()
    // Input goes on being read and dropped, so that the peer reads its last answer and not a reset.
    if (this.#paused) this.#resumeReading()
    const timer = setTimeout(() => this.cut(), lingerMs)
    this.#socket.once('close', () => clearTimeout(timer))
  }

  #onBytes(length: number): boolean {
    const bytes = readBuffer.subarray(0, length)
    try {
      if (this.session.closing || this.#ending) return true
      this.#lines.push(bytes)
      return this.#takeLines()
    } finally {
      bytes.fill(0)
    }
  }

  /** Takes complete lines until there are none or the bound is reached; answers whether to read on. */
  #takeLines(): boolean {
    while (this.#inFlight < inFlightMax && !this.session.closing) {
      const line = this.#lines.take(newline)
      if (line === null) break
      if (line === 'too-long') {
        this.#protocolError(new PurserError('FrameTooLarge'))
        this.session.closing = true
        this.#lines.clear()
        break
      }
      this.#onLine(line)
      line.fill(0)
    }
    this.#lines.compact()
    this.#paused = this.#inFlight >= inFlightMax
    return !this.#paused
  }

  #onLine(line: Buffer): void {
    if (isBlank(line)) return
    const http = isLetter(line[0]!) && httpRequestLine.test(line.toString('latin1', 0, httpLineBytesMax))
    const message = http ? null : parseLine(line)
    if (message === null) {
      this.#protocolError(new PurserError('ParseError'))
      if (http) {
        this.session.closing = true
        this.#lines.clear()
      }
      return
    }
    this.lastRequestAtMs = performance.now()
    const requests = requestsIn(message)
    this.#inFlight += requests
    this.#queue.push({ message, requests })
    this.#hooks.wake(this)
  }

  #protocolError(error: PurserError): void {
    this.#inFlight += 1
    this.#hooks.answerOutside(this, errorResponse(null, error), 1)
  }

  /** Takes up reading again after requests were answered. */
  #continue(): void {
    if (!this.#takeLines()) return
    this.#resumeReading()
    this.#endIfDone()
  }

  #resumeReading(): void {
    this.#paused = false
    if (!this.destroyed) this.#socket.resume()
  }

  #onEnd(): void {
    this.#inputEnded = true
    // What came after the last newline is no line.
    if (!this.#paused) this.#lines.clear()
    this.#endIfDone()
  }

  #onClose(): void {
    this.session.closing = true
    this.#dropQueue()
    for (const { done } of this.#outgoing.splice(0)) done()
    this.#hooks.closed(this)
  }
}

function isLetter(byte: number): boolean {
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x7a
}

function isBlank(line: Buffer): boolean {
  for (const byte of line) if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0d) return false
  return true
}
