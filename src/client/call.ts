import { CallTimeoutError } from './errors.ts'

/** What one call may say about itself, beside its params. */
export type CallOptions = {
  /** Milliseconds from the call to its answer, waiting included; `Infinity` for none. Default: the client's. */
  timeoutMs?: number | undefined
  /** Rejects the call with `signal.reason`. A request already sent may still be carried out. */
  signal?: AbortSignal | undefined
  /**
   * Send it again by itself when the connection breaks before the answer, although it is no pure read and has no
   * idempotencyKey or intentId: the caller says that carrying it out twice is harmless. Default false.
   */
  resend?: boolean | undefined
}

/** Node's timers hold no more than this; about 24.8 days. */
const timerMaxMs = 2 ** 31 - 1

/** Throws TypeError where `timeoutMs` is no time to wait. */
export function checkTimeout(timeoutMs: number): void {
  if (!(timeoutMs > 0) || (timeoutMs > timerMaxMs && timeoutMs !== Infinity))
    throw new TypeError(`timeoutMs must be above 0 and at most ${timerMaxMs}, or Infinity`)
}

type CallParts = {
  readonly id: number
  readonly method: string
  readonly line: string
  readonly resendable: boolean
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
  readonly resolve: (result: never) => void
  readonly reject: (error: unknown) => void
  /** Called when the call ends by itself (timeout, abort), with why it could not be sent so far. */
  readonly onCancel: (call: Call) => void
  readonly whyNotSent: () => unknown
}

/** One call from `client.call` to its settlement, which happens once, whatever comes first. */
export class Call {
  readonly id: number
  readonly method: string
  readonly resendable: boolean
  /** The request; dropped once sent where it will not be sent again, since it may hold secrets. */
  line: string | null
  sent = false
  resends = 0
  /** Links of the CallQueue this call waits in. */
  previous: Call | null = null
  next: Call | null = null
  readonly #parts: CallParts
  #settled = false
  #timer: NodeJS.Timeout | null = null
  #whenSettled: (() => void) | null = null

  constructor(parts: CallParts) {
    this.#parts = parts
    this.id = parts.id
    this.method = parts.method
    this.line = parts.line
    this.resendable = parts.resendable
    if (parts.timeoutMs !== Infinity) this.#timer = setTimeout(() => this.#timeOut(), parts.timeoutMs)
    if (parts.signal !== undefined) listen(parts.signal, this)
  }

  get settled(): boolean {
    return this.#settled
  }

  resolve(result: unknown): void {
    // The daemon's results are typed by the method table, not checked again here.
    if (this.#end()) this.#parts.resolve(result as never)
  }

  reject(error: unknown): void {
    if (this.#end()) this.#parts.reject(error)
  }

  /** Ends the call before its answer; its place on the connection stays taken until the daemon has answered. */
  cancel(error: unknown): void {
    if (this.#settled) return
    this.reject(error)
    this.#parts.onCancel(this)
  }

  /** Resolves when the call is settled either way. */
  whenSettled(): Promise<void> {
    if (this.#settled) return Promise.resolve()
    return new Promise((resolve) => {
      this.#whenSettled = resolve
    })
  }

  #timeOut(): void {
    const { method, timeoutMs } = this.#parts
    const cause = this.sent ? undefined : this.#parts.whyNotSent()
    this.cancel(new CallTimeoutError(method, timeoutMs, this.sent, cause))
  }

  #end(): boolean {
    if (this.#settled) return false
    this.#settled = true
    this.line = null
    if (this.#timer !== null) clearTimeout(this.#timer)
    if (this.#parts.signal !== undefined) unlisten(this.#parts.signal, this)
    this.#whenSettled?.()
    return true
  }
}

/** One listener per signal, however many calls share it: Node warns of a leak beyond ten. */
const callsOfSignal = new WeakMap<AbortSignal, { readonly calls: Set<Call>; readonly onAbort: () => void }>()

function listen(signal: AbortSignal, call: Call): void {
  const known = callsOfSignal.get(signal)
  if (known !== undefined) {
    known.calls.add(call)
    return
  }
  const calls = new Set([call])
  const onAbort = (): void => {
    callsOfSignal.delete(signal)
    for (const pending of calls) pending.cancel(signal.reason)
  }
  callsOfSignal.set(signal, { calls, onAbort })
  signal.addEventListener('abort', onAbort, { once: true })
}

function unlisten(signal: AbortSignal, call: Call): void {
  const known = callsOfSignal.get(signal)
  if (known === undefined) return
  known.calls.delete(call)
  if (known.calls.size > 0) return
  callsOfSignal.delete(signal)
  signal.removeEventListener('abort', known.onAbort)
}
