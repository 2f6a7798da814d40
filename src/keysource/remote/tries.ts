import { setTimeout as sleep } from 'node:timers/promises'
import { SourceError } from './source-error.ts'

/** How long a request to a key service may take, and how often it is tried. */
export type RequestLimits = {
  /** Milliseconds of one try, from its start to the last byte of the answer. */
  readonly timeoutMs: number
  /** Milliseconds between a try and the next: one more try than pauses. */
  readonly pausesMs: readonly number[]
}

/** The contract's: 3 tries of 5 s. The pauses are shorter than what a throttled service wants at worst, for a start waits. */
export const requestLimits: RequestLimits = { timeoutMs: 5_000, pausesMs: [500, 1_500] }

/** The longest that one request can take, with all its tries. */
export function longestMs({ timeoutMs, pausesMs }: RequestLimits): number {
  return pausesMs.reduce((sum, pauseMs) => sum + pauseMs, timeoutMs * (pausesMs.length + 1))
}

/**
 * Runs `attempt` until it succeeds, fails for good or has had its tries. Each is cut off after `timeoutMs` whatever it
 * waits for, and its signal is aborted then. Throws the last attempt's error.
 */
export async function withTries<T>(
  limits: RequestLimits,
  attempt: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  for (const pauseMs of limits.pausesMs) {
    try {
      return await withDeadline(limits.timeoutMs, attempt)
    } catch (error) {
      if (!(error instanceof SourceError) || !error.retry) throw error
    }
    // Between half of it and all: hosts that were throttled together do not come again together.
    await sleep(pauseMs * (0.5 + Math.random() / 2))
  }
  return withDeadline(limits.timeoutMs, attempt)
}

async function withDeadline<T>(timeoutMs: number, attempt: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const timer = setTimeout(() => {
    controller.abort(
      new SourceError(`no answer within ${timeoutMs / 1000} s`, 'see whether this host reaches it', {
        retry: true,
      }),
    )
  }, timeoutMs)
  const cutOff = new Promise<never>((_, reject) => {
    controller.signal.addEventListener('abort', () => reject(controller.signal.reason as SourceError))
  })
  try {
    return await Promise.race([attempt(controller.signal), cutOff])
  } finally {
    clearTimeout(timer)
  }
}
