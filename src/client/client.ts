import { setTimeout as delay } from 'node:timers/promises'
import { Call, type CallOptions, checkTimeout } from './call.ts'
import { CallQueue } from './call-queue.ts'
import { Connection, isTurnedAway } from './connection.ts'
import {
  ClientClosedError,
  ConnectError,
  ConnectionLostError,
  ProtocolError,
  PurserError,
  QueueFullError,
} from './errors.ts'
import { bindGroup, type CallArguments, type CallResult, type Group } from './groups.ts'
import { type ConnectOptions, type ResolvedOptions, resolveOptions } from './options.ts'
import { type Paginated, paginate } from './paginate.ts'
import { encodeRequest } from './request.ts'
import { isResendable } from './resend.ts'
import type { Hello, ListMethod, MethodTable, Params } from './types.ts'

/** Waits between attempts to reconnect: doubling from the first to the most, each cut at random by up to half. */
const backoffFirstMs = 50
const backoffMostMs = 2000

/** A request that takes the daemon down must not do so for as long as its timeout lasts. */
const resendsMax = 3

/**
 * A typed client of the daemon. Made by `connect`; may be shared by a whole program. Methods are grouped as on the
 * wire: `client.credentials.retrieve({ userId: 'alice' })`.
 *
 * Calls are pipelined and may be answered in any order: await one before you depend on it. At most `maxInFlight`
 * are on the way, further ones wait their turn.
 *
 * When the connection breaks, calls that were sent and not answered are rejected with ConnectionLostError, since
 * nobody knows whether they were carried out. Those that do nothing twice are sent again on the next connection
 * instead (up to three times): pure reads, calls with an `idempotencyKey` or `intentId`, captures and records of a
 * `tradeId`, voids, captures that close their reservation, and calls made with `resend: true`. Calls not sent yet
 * just wait. Reconnecting starts as soon as a call needs it, with a growing
 * pause between attempts, and presents `client` and `token` again before anything else.
 *
 * Every call rejects with one of: PurserError (the daemon's answer), ConnectionLostError, CallTimeoutError,
 * ConnectError (not permitted to use the socket), TokenError (its file cannot be used), ProtocolError, QueueFullError, ClientClosedError, the reason of
 * its `signal`, or TypeError for params that JSON cannot carry.
 */
export class PurserClient implements AsyncDisposable {
  /** The socket this client uses. */
  readonly socketPath: string
  readonly session: Group<'session'> = this.#group('session')
  readonly system: Group<'system'> = this.#group('system')
  readonly rpc: Group<'rpc'> = this.#group('rpc')
  readonly users: Group<'users'> = this.#group('users')
  readonly credentials: Group<'credentials'> = this.#group('credentials')
  readonly spend: Group<'spend'> = this.#group('spend')
  readonly reservations: Group<'reservations'> = this.#group('reservations')
  readonly positions: Group<'positions'> = this.#group('positions')
  readonly clients: Group<'clients'> = this.#group('clients')
  readonly audit: Group<'audit'> = this.#group('audit')
  readonly master: Group<'master'> = this.#group('master')
  readonly backup: Group<'backup'> = this.#group('backup')
  readonly #options: ResolvedOptions
  readonly #waiting = new CallQueue()
  readonly #closing = new AbortController()
  #connection: Connection | null = null
  #opening = false
  #hello: Hello | null = null
  #nextId = 1
  /** Attempts and connections in a row that brought no answer. */
  #failures = 0
  #lastAttemptMs = 0
  #lastError: unknown
  #closed: Promise<void> | null = null

  private constructor(options: ResolvedOptions) {
    this.#options = options
    this.socketPath = options.where.path
  }

  /** See `connect`. */
  static async connect(options: ConnectOptions = {}): Promise<PurserClient> {
    const client = new PurserClient(resolveOptions(options))
    client.#connection = await client.#open()
    return client
  }

  /** Whether there is a connection now. Without one the next call makes it. */
  get connected(): boolean {
    return this.#connection !== null
  }

  /** The daemon's last greeting; null where neither `client` nor `token` was given, so that none was asked for. */
  get hello(): Hello | null {
    return this.#hello
  }

  /**
   * Calls a method by its wire name, typed where this version knows it:
   * `client.call('system.ping')`, `client.call('credentials.get', { userId, credentialId }, { timeoutMs: 500 })`.
   */
  call<M extends string>(method: M, ...args: CallArguments<M>): Promise<CallResult<M>> {
    const [params, options] = args
    return this.#call(method, params as Readonly<Record<string, unknown>> | undefined, options) as Promise<
      CallResult<M>
    >
  }

  /**
   * Walks a list, page by page as it is consumed: `for await (const user of client.paginate('users.list'))`.
   * `limit` in `params` is the size of a page; `options` count for each page.
   */
  paginate<M extends ListMethod>(method: M, params?: Params<M>, options?: CallOptions): Paginated<M> {
    return paginate((page) => this.#call(method, page, options), method, params)
  }

  /**
   * Closes the client: calls that wait are rejected with ClientClosedError, those on the way still get their
   * answers (or time out), then the connection ends. Resolves when it has. Safe to call again.
   */
  close(): Promise<void> {
    this.#closed ??= this.#shutDown()
    return this.#closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #group<G extends keyof MethodTable>(group: G): Group<G> {
    return bindGroup(group, (method, params, options) => this.#call(method, params, options))
  }

  #call(
    method: string,
    params: Readonly<Record<string, unknown>> = {},
    options: CallOptions = {},
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      options.signal?.throwIfAborted()
      if (this.#closed !== null) throw new ClientClosedError(method)
      if (this.#connection === null && !this.#options.reconnect)
        throw new ClientClosedError(method, this.#lastError)
      const { maxWaiting } = this.#options
      if (!this.#hasRoom() && this.#waiting.size >= maxWaiting) throw new QueueFullError(method, maxWaiting)
      this.#waiting.push(this.#newCall(method, params, options, resolve, reject))
      this.#pump()
    })
  }

  #newCall(
    method: string,
    params: Readonly<Record<string, unknown>>,
    options: CallOptions,
    resolve: (result: never) => void,
    reject: (error: unknown) => void,
  ): Call {
    const timeoutMs = options.timeoutMs ?? this.#options.timeoutMs
    checkTimeout(timeoutMs)
    const id = this.#nextId
    const line = encodeRequest(id, method, params)
    this.#nextId += 1
    return new Call({
      id,
      method,
      line,
      resendable: options.resend === true || isResendable(method, params),
      timeoutMs,
      signal: options.signal,
      resolve,
      reject,
      onCancel: (call) => this.#waiting.remove(call),
      whyNotSent: () => (this.#connection === null ? this.#lastError : undefined),
    })
  }

  #hasRoom(): boolean {
    return this.#connection !== null && this.#connection.inFlightCount < this.#options.maxInFlight
  }

  #pump(): void {
    while (this.#hasRoom()) {
      const call = this.#waiting.shift()
      if (call === null) return
      this.#connection?.send(call)
    }
    if (this.#connection === null && this.#waiting.size > 0) void this.#reopen()
  }

  /** Connects and greets. Rejects with what `connect` documents. */
  async #open(): Promise<Connection> {
    const { where, timeoutMs, maxAnswerBytes } = this.#options
    this.#lastAttemptMs = performance.now()
    const connection: Connection = await Connection.open(
      where,
      { timeoutMs, maxAnswerBytes, signal: this.#closing.signal },
      {
        onAnswers: () => {
          this.#failures = 0
          this.#pump()
        },
        onLost: (cause, calls) => this.#onLost(connection, cause, calls),
      },
    )
    try {
      await this.#greet(connection)
    } catch (error) {
      connection.destroy()
      throw error
    }
    return connection
  }

  async #greet(connection: Connection): Promise<void> {
    const { client } = this.#options
    const token = this.#options.token()
    if (client === undefined && token === undefined) return
    const hello = await new Promise<Hello>((resolve, reject) => {
      const options = { signal: this.#closing.signal }
      connection.send(this.#newCall('session.hello', { client, token }, options, resolve, reject))
    })
    if (hello?.protocol !== 1) throw new ProtocolError('the daemon does not speak version 1 of the protocol')
    this.#hello = hello
  }

  /** Connects again, for as long as calls are waiting for it. */
  async #reopen(): Promise<void> {
    if (this.#opening) return
    this.#opening = true
    while (this.#waiting.size > 0 && this.#connection === null) {
      await this.#backOff()
      if (this.#waiting.size === 0) break
      try {
        this.#connection = await this.#open()
      } catch (error) {
        this.#lastError = error
        this.#failures += 1
        if (!mayPass(error)) this.#rejectWaiting(() => error)
      }
    }
    this.#opening = false
    if (this.#closed !== null) this.#connection?.destroy()
    this.#pump()
  }

  async #backOff(): Promise<void> {
    if (this.#failures === 0) return
    const mostMs = Math.min(backoffMostMs, backoffFirstMs * 2 ** Math.min(this.#failures - 1, 16))
    const pauseMs = mostMs * (1 - Math.random() / 2)
    const leftMs = this.#lastAttemptMs + pauseMs - performance.now()
    if (leftMs > 0) await delay(leftMs, undefined, { signal: this.#closing.signal }).catch(() => undefined)
  }

  #onLost(connection: Connection, cause: unknown, calls: readonly Call[]): void {
    this.#lastError = cause
    if (this.#connection === connection) {
      this.#connection = null
      if (!connection.answered) this.#failures += 1
    }
    const turnedAway = !connection.answered && isTurnedAway(cause)
    const again = this.#options.reconnect && this.#closed === null && (!turnedAway || cause.retryable)
    for (const call of [...calls].reverse()) {
      if (cause instanceof ProtocolError) call.reject(cause)
      else if (again && call.resendable && call.resends < resendsMax) {
        call.resends += 1
        this.#waiting.unshift(call)
      } else call.reject(turnedAway ? cause : new ConnectionLostError(call.method, cause))
    }
    if (cause instanceof ProtocolError) this.#rejectWaiting(() => cause)
    if (!this.#options.reconnect) this.#rejectWaiting((method) => new ClientClosedError(method, cause))
    this.#pump()
  }

  #rejectWaiting(toError: (method: string) => unknown): void {
    for (let call = this.#waiting.shift(); call !== null; call = this.#waiting.shift())
      call.reject(toError(call.method))
  }

  async #shutDown(): Promise<void> {
    this.#rejectWaiting((method) => new ClientClosedError(method))
    this.#closing.abort(new ClientClosedError('session.hello'))
    const connection = this.#connection
    if (connection === null) return
    await connection.whenQuiet()
    await connection.close()
  }
}

/** Whether trying to connect again can help without anybody doing something about it. */
function mayPass(error: unknown): boolean {
  if (error instanceof PurserError) return error.retryable
  if (error instanceof ConnectError) return !['EACCES', 'EPERM', 'ENAMETOOLONG'].includes(error.code)
  return !(error instanceof ProtocolError)
}

/**
 * Connects to the daemon, one attempt, and greets it where `client` or `token` is given. Rejects with ConnectError
 * (nobody there, not permitted; `hint` says what to do), TokenError, PurserError (`Forbidden`: the token is not valid;
 * `Overloaded`), ConnectionLostError, CallTimeoutError or ProtocolError, and with TypeError for an option out of range.
 *
 *     await using client = await connect({ client: 'market-maker/1.4' })
 *     const { apiKey, apiSecret, passphrase } = await client.credentials.retrieve({ userId: 'alice' })
 */
export function connect(options: ConnectOptions = {}): Promise<PurserClient> {
  return PurserClient.connect(options)
}
