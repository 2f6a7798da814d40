import { connect, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { parseAnswer } from './answer.ts'
import type { Call } from './call.ts'
import { toConnectError } from './connect-error.ts'
import { ConnectError, ProtocolError, PurserError } from './errors.ts'
import { LineReader } from './line-reader.ts'
import type { SocketPath } from './socket-path.ts'

/** sun_path holds 108 bytes with its NUL; Node 20 would cut a longer path short and connect elsewhere. */
const socketPathBytesMax = 107

const readBufferBytes = 64 * 1024

/** Where the daemon's queue of connects is full: long enough for it to take them, up to twice that by chance. */
const queueFullMs = 5

/** What a connection tells its owner. */
export type ConnectionEvents = {
  /** Answers have come in: there may be room for more calls. */
  onAnswers(): void
  /**
   * The connection is gone, once. `cause` is a ProtocolError where the server broke the protocol, a PurserError
   * where the daemon turned the whole connection away, else what the system said or undefined. `calls` were sent
   * and not answered.
   */
  onLost(cause: unknown, calls: readonly Call[]): void
}

export type ConnectionOptions = {
  readonly timeoutMs: number
  readonly maxAnswerBytes: number
  readonly signal: AbortSignal
}

/** One connection: sends the lines of calls, settles them by the id of the answers. */
export class Connection {
  readonly #socket: Socket
  readonly #events: ConnectionEvents
  readonly #reader: LineReader
  readonly #inFlight = new Map<number, Call>()
  readonly #readBuffer = Buffer.allocUnsafeSlow(readBufferBytes)
  #outgoing: string[] = []
  #answered = false
  #cause: unknown
  #lost = false

  private constructor(path: string, maxAnswerBytes: number, events: ConnectionEvents) {
    this.#events = events
    this.#reader = new LineReader(maxAnswerBytes, (line) => this.#onAnswer(line))
    this.#socket = connect({
      path,
      // Answers hold secrets: one buffer, wiped after each read, instead of the stream's chunks that stay behind.
      onread: { buffer: this.#readBuffer, callback: (bytes) => this.#onRead(bytes) },
    })
    this.#socket.on('error', (error) => {
      this.#cause ??= error
    })
    this.#socket.on('close', () => this.#onClose())
  }

  /**
   * Connects; while the queue of the socket is full, as in a flood of connects, again and again until `timeoutMs` are
   * over. Rejects with ConnectError, or with the reason of `signal`.
   */
  static async open(
    where: SocketPath,
    options: ConnectionOptions,
    events: ConnectionEvents,
  ): Promise<Connection> {
    if (Buffer.byteLength(where.path) > socketPathBytesMax)
      throw toConnectError({ code: 'ENAMETOOLONG' }, where)
    const endsAtMs = performance.now() + options.timeoutMs
    for (;;) {
      const timeoutMs = Math.max(1, endsAtMs - performance.now())
      try {
        return await Connection.#attempt(where, { ...options, timeoutMs }, events)
      } catch (error) {
        const waitMs = queueFullMs * (1 + Math.random())
        const isFull = error instanceof ConnectError && error.code === 'EAGAIN'
        if (!isFull || performance.now() + waitMs >= endsAtMs) throw error
        await pause(waitMs)
        options.signal.throwIfAborted()
      }
    }
  }

  static #attempt(
    where: SocketPath,
    options: ConnectionOptions,
    events: ConnectionEvents,
  ): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const connection = new Connection(where.path, options.maxAnswerBytes, events)
      const socket = connection.#socket
      const onTimeout = (): void => void socket.destroy(connectTimeout(where.path, options.timeoutMs))
      // Node takes Infinity for one millisecond.
      const timer = options.timeoutMs === Infinity ? undefined : setTimeout(onTimeout, options.timeoutMs)
      const onAbort = (): void => void socket.destroy(options.signal.reason)
      const onError = (error: Error): void =>
        settle(() => {
          const known = error === options.signal.reason || error instanceof ConnectError
          connection.#lost = true
          reject(known ? error : toConnectError(error, where))
        })
      const onConnect = (): void => settle(() => resolve(connection))
      const settle = (how: () => void): void => {
        clearTimeout(timer)
        options.signal.removeEventListener('abort', onAbort)
        socket.off('error', onError)
        socket.off('connect', onConnect)
        how()
      }
      options.signal.addEventListener('abort', onAbort)
      socket.on('error', onError)
      socket.on('connect', onConnect)
    })
  }

  /** Requests sent and not answered yet, those whose caller gave up included: the daemon still counts them. */
  get inFlightCount(): number {
    return this.#inFlight.size
  }

  /** The daemon has answered something on this connection. */
  get answered(): boolean {
    return this.#answered
  }

  /** Sends a call. Lines of one turn of the event loop leave together. */
  send(call: Call): void {
    this.#inFlight.set(call.id, call)
    if (this.#outgoing.push(call.line ?? '') === 1) process.nextTick(() => this.#flush())
    call.sent = true
    if (!call.resendable) call.line = null
  }

  /** Resolves when nobody waits for an answer on this connection any more. */
  async whenQuiet(): Promise<void> {
    await Promise.all([...this.#inFlight.values()].map((call) => call.whenSettled()))
  }

  /** Closes at once and resolves when the socket is closed; calls in flight are handed to `onLost`. */
  close(): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#socket.closed) resolve()
      else this.#socket.once('close', () => resolve())
    })
    this.destroy()
    return closed
  }

  /** As `close`, without waiting; `cause` is handed to `onLost` where there is none yet. */
  destroy(cause?: unknown): void {
    this.#cause ??= cause
    this.#socket.destroy()
  }

  #flush(): void {
    const text = this.#outgoing.join('')
    this.#outgoing = []
    if (!this.#socket.destroyed) this.#socket.write(text)
  }

  #onRead(bytes: number): boolean {
    const chunk = this.#readBuffer.subarray(0, bytes)
    try {
      this.#reader.push(chunk)
    } catch (error) {
      this.destroy(error)
      return false
    } finally {
      chunk.fill(0)
    }
    this.#events.onAnswers()
    return true
  }

  /** Throws what ends the connection. */
  #onAnswer(line: string): void {
    const { id, error, result } = parseAnswer(line)
    if (id === null) throw error
    const call = this.#inFlight.get(id)
    if (call === undefined) throw new ProtocolError('an answer to a request that is not open')
    this.#answered = true
    this.#inFlight.delete(id)
    if (error === null) call.resolve(result)
    else call.reject(error)
  }

  #onClose(): void {
    this.#reader.clear()
    if (this.#lost) return
    this.#lost = true
    const calls = [...this.#inFlight.values()].filter((call) => !call.settled)
    this.#inFlight.clear()
    this.#events.onLost(this.#cause, calls)
  }
}

function connectTimeout(path: string, timeoutMs: number): ConnectError {
  return new ConnectError(
    'ETIMEDOUT',
    path,
    `${path} took no connection within ${timeoutMs} ms`,
    'purserd is busy or stopped; try again',
  )
}

/** The daemon turned the whole connection away before it carried anything out (too many connections, not admitted). */
export function isTurnedAway(cause: unknown): cause is PurserError {
  return cause instanceof PurserError && (cause.type === 'Overloaded' || cause.type === 'Forbidden')
}
