import { loadConfig, readArguments } from './config.ts'
import type { Daemon, DaemonOptions } from './daemon.ts'
import { startDaemon } from './daemon.ts'
import { exitCodes, StartError } from './errors.ts'
import { version } from './version.ts'

/**
 * Runs purserd until a signal ends it; answers the exit code. Whatever keeps it from starting is one line on stderr
 * that says what to do. `options` are for tests that run it with other parts.
 */
export async function run(argv: readonly string[], options: DaemonOptions = {}): Promise<number> {
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
    const config = loadConfig({ flags: parsed.flags, env: process.env })
    const daemon = await startDaemon(config, process.env, options)
    await stopOnSignal(daemon)
    return exitCodes.ok
  } catch (error) {
    const known = error instanceof StartError ? error : unforeseen(error)
    process.stderr.write(`purserd: ${oneLine(known.message)}; ${oneLine(known.hint)}\n`)
    return known.exitCode
  }
}

function stopOnSignal(daemon: Daemon): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (signal: NodeJS.Signals) => {
      process.removeAllListeners('SIGTERM').removeAllListeners('SIGINT')
      // A second signal while draining ends at once, as the terminal's user expects.
      process.once('SIGINT', () => process.exit(exitCodes.unforeseen))
      daemon.stop(signal).then(resolve, reject)
    }
    process.once('SIGTERM', stop)
    process.once('SIGINT', stop)
  })
}

function unforeseen(error: unknown): StartError {
  const message = error instanceof Error ? error.message : String(error)
  return new StartError('unforeseen', `unforeseen: ${message}`, 'report this with the log', error)
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ')
}
