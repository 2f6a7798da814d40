import {
  ClientClosedError,
  ConnectError,
  ConnectionLostError,
  isPurserError,
  ProtocolError,
  type PurserClient,
  PurserClientError,
} from '../../client/index.ts'
import type { GlobalOptions } from '../cli.ts'
import { openClient } from '../session.ts'
import { Poller } from './poller.ts'
import type { Away, TopData, TopState } from './state.ts'

/** Longer than a busy daemon takes; a person should soon see that one hangs. */
const timeoutMs = 3000

/** Reasons of the system that no waiting ends. */
const lastingCodes: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'ENAMETOOLONG'])

/** Whether looking again cannot help, so that top ends with the error. */
export function isLasting(error: unknown): boolean {
  if (isPurserError(error)) return error.type === 'Forbidden' || error.type === 'MethodNotFound'
  if (error instanceof ConnectError) return lastingCodes.has(error.code)
  return error instanceof ProtocolError || !(error instanceof PurserClientError)
}

function describeAway(error: unknown): { message: string; hint: string } {
  // What the client says of a single call (repeat it, or look first) is not about a view that asks anew anyway.
  if (error instanceof ConnectionLostError || error instanceof ClientClosedError)
    return { message: 'the connection was lost', hint: '' }
  const { message, hint } = error as PurserClientError
  return { message, hint: hint.replace('the option socketPath', '--socket') }
}

/** The daemon as `purser top` sees it: connects again by itself, and says so while there is nobody. */
export class TopSource {
  readonly #options: GlobalOptions
  readonly #signal: AbortSignal
  #client: PurserClient | null = null
  #poller: Poller | null = null
  #data: TopData | null = null
  #away: Away | null = null

  /** `signal` ends a look under way. */
  constructor(options: GlobalOptions, signal: AbortSignal) {
    this.#options = { timeout: timeoutMs, ...options }
    this.#signal = signal
  }

  /** What is known without asking. */
  get state(): TopState {
    return { nowMs: Date.now(), data: this.#data, away: this.#away }
  }

  /** Asks once. Rejects where nobody answers, with the errors of src/client/. */
  async ask(): Promise<TopData> {
    if (this.#poller === null) {
      // Its own reconnecting would hide that the daemon is away.
      const client = await openClient(this.#options, { reconnect: false })
      if (this.#signal.aborted) {
        await client.close()
        throw this.#signal.reason
      }
      this.#client = client
      this.#poller = new Poller(client, this.#signal)
    }
    this.#data = await this.#poller.poll()
    this.#away = null
    return this.#data
  }

  /** Asks once; a daemon that does not answer is part of the state. Rejects where no waiting will change that. */
  async look(): Promise<TopState> {
    try {
      await this.ask()
    } catch (error) {
      if (isLasting(error)) throw error
      await this.close()
      this.#away = { sinceMs: this.#away?.sinceMs ?? Date.now(), ...describeAway(error) }
    }
    return this.state
  }

  /** Ends the connection; the next look makes another. */
  async close(): Promise<void> {
    const client = this.#client
    this.#client = null
    this.#poller = null
    await client?.close()
  }
}
