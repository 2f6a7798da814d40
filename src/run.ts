import { loadConfig, readArguments } from './config.ts'
import type { DaemonOptions } from './daemon.ts'
import { startDaemon } from './daemon.ts'
import { exitCodes, StartError } from './errors.ts'
import { takeEnvironmentKey } from './keysource/environment.ts'
import { version } from './version.ts'

/**
 * Runs purserd until a signal ends it; answers the exit code. Whatever keeps it from starting is one line on stderr
 * that says what to do. `options` are for tests that run it with other parts.
 */
export async function run(argv: readonly string[], options: DaemonOptions = {}): Promise<number> {
  process.on('uncaughtException', (error) => {
    // What was under way may have stopped anywhere; the store holds whatever was answered.
    tellFailure(unforeseen(error))
    process.exit(exitCodes.unforeseen)
  })
  const signal = firstSignal()
  try {
    const parsed = readArguments(argv)
    if (parsed.kind === 'help') {
      process.stdout.write(parsed.text)
      return exitCodes.ok
    }
    if (parsed.kind === 'version') {
      process.stdout.write(`purserd ${version}\n`)
      return exitCodes.ok
    }
    // First of all: listing the variables of process.env, as loadConfig does, copies the key onto the heap.
    const environmentKey = takeEnvironmentKey()
    const config = loadConfig({ flags: parsed.flags, env: process.env })
    const daemon = await startDaemon(config, { env: process.env, environmentKey }, options)
    const ending = await Promise.race([signal, daemon.failed])
    if (typeof ending === 'string') {
      await daemon.stop(ending)
      return exitCodes.ok
    }
    await daemon.stop('masterKey')
    throw ending
  } catch (error) {
    const known = error instanceof StartError ? error : unforeseen(error)
    tellFailure(known)
    return known.exitCode
  }
}

/**
 * Resolves at the first SIGTERM or SIGINT, also one that comes during the start. More of them change nothing: a Ctrl-C
 * under `npm start` arrives twice, once from the terminal and once from npm, and the drain has a bound of its own.
 */
function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    process.on('SIGTERM', resolve).on('SIGINT', resolve)
  })
}

/** One line, whatever the message. */
function tellFailure({ message, hint }: StartError): void {
  process.stderr.write(`purserd: ${oneLine(message)}; ${oneLine(hint)}\n`)
}

function unforeseen(error: unknown): StartError {
  const message = error instanceof Error ? error.message : String(error)
  return new StartError(
    'unforeseen',
    `unforeseen: ${message}${placeOf(error)}`,
    'report this with the log',
    error,
  )
}

/** The innermost file of ours and its line: enough to find it, and no stack trace. */
function placeOf(error: unknown): string {
  const frames = error instanceof Error ? (error.stack ?? '').split('\n    at ').slice(1) : []
  const place = /([^/\s(]+:\d+):\d+\)?$/.exec(frames.find((frame) => !frame.includes('node:')) ?? '')?.[1]
  return place === undefined ? '' : ` (${place})`
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ')
}
