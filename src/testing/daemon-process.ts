import { type ChildProcess, spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import type { LogLines } from './log-lines.ts'

/** How a process ended: by its own exit code, or by a signal. */
export type ExitStatus = { readonly code: number | null; readonly signal: NodeJS.Signals | null }

/** The first line a daemon prints when it serves: `{"msg":"ready","socket":...,"boundary":...}`. */
export type ReadyLine = { readonly msg: 'ready'; readonly socket: string; readonly [field: string]: unknown }

/** The daemon did not come up. `exitCode` and `signal` are null where it was still running when its time was up. */
export class StartPurserError extends Error {
  override readonly name = 'StartPurserError'
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  /** The last lines it printed. */
  readonly logs: readonly string[]

  constructor(message: string, status: ExitStatus, logs: readonly string[], cause?: unknown) {
    super(
      [message, ...logs.map((line) => `  | ${line}`)].join('\n'),
      cause === undefined ? undefined : { cause },
    )
    this.exitCode = status.code
    this.signal = status.signal
    this.logs = logs
  }
}

/** Enough to tell what went wrong, little enough to read. */
const logLinesInError = 20

/** A process that the daemon left behind may hold its output open: the end of the daemon itself counts. */
const outputGraceMs = 1000

export type LaunchOptions = {
  readonly launcher: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
}

/** One run of the daemon. It does not keep the event loop alive. */
export class DaemonProcess {
  /** Resolves when the process has ended and what it printed is read. Never rejects. */
  readonly exited: Promise<ExitStatus>
  readonly #child: ChildProcess
  readonly #logs: LogLines
  readonly #ready: Promise<ReadyLine>
  #spawnError: Error | null = null

  constructor({ launcher, args, env, cwd }: LaunchOptions, logs: LogLines) {
    this.#logs = logs
    const child = spawn(launcher, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    this.#ready = new Promise((resolve) => {
      const onLine = (line: string): void => {
        const ready = asReadyLine(line)
        if (ready !== null) resolve(ready)
      }
      for (const [stream, take] of [
        [child.stdout, logs.stream(onLine)],
        [child.stderr, logs.stream()],
      ] as const)
        stream
          .setEncoding('utf8')
          .on('data', take)
          .on('end', () => take('\n'))
    })
    this.exited = new Promise((resolve) => {
      child.on('close', (code, signal) => resolve({ code, signal }))
      child.on('exit', (code, signal) => {
        setTimeout(() => resolve({ code, signal }), outputGraceMs).unref()
      })
      child.on('error', (error) => {
        this.#spawnError = error
        if (child.pid === undefined) resolve({ code: null, signal: null })
      })
    })
    child.unref()
    for (const stream of [child.stdout, child.stderr]) (stream as Socket).unref()
  }

  /** Undefined where it could not be started at all. */
  get pid(): number | undefined {
    return this.#child.pid
  }

  /** Rejects with StartPurserError where the daemon ends first or is not ready within `timeoutMs`. */
  async whenReady(timeoutMs: number): Promise<ReadyLine> {
    const outcome = await within(timeoutMs, Promise.race([this.#ready, this.exited]))
    if (outcome !== null && 'msg' in outcome) return outcome
    const logs = this.#logs.last(logLinesInError)
    if (this.#spawnError !== null) {
      const message = `purserd could not be started: ${this.#spawnError.message}`
      throw new StartPurserError(message, { code: null, signal: null }, logs, this.#spawnError)
    }
    if (outcome === null) {
      await this.end('SIGKILL', timeoutMs)
      throw new StartPurserError(
        `purserd was not ready within ${timeoutMs} ms`,
        { code: null, signal: null },
        logs,
      )
    }
    const how = outcome.signal === null ? `exited with ${outcome.code}` : `was ended by ${outcome.signal}`
    throw new StartPurserError(`purserd ${how} before it was ready`, outcome, logs)
  }

  /** Sends `signal` and waits for the end; SIGKILL follows where it takes longer than `timeoutMs`. */
  async end(signal: NodeJS.Signals, timeoutMs: number): Promise<ExitStatus> {
    this.#child.kill(signal)
    const status = await within(timeoutMs, this.exited)
    if (status !== null) return status
    this.#child.kill('SIGKILL')
    return this.exited
  }
}

function asReadyLine(line: string): ReadyLine | null {
  if (!line.includes('"ready"')) return null
  try {
    const fields: unknown = JSON.parse(line)
    return (fields as ReadyLine | null)?.msg === 'ready' ? (fields as ReadyLine) : null
  } catch {
    return null
  }
}

/** `promise`, or null after `timeoutMs`. Keeps the event loop alive meanwhile, which the daemon's handles do not. */
async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), timeoutMs)
  })
  try {
    return await Promise.race([promise, timeout])
  } finally {
    clearTimeout(timer)
  }
}
