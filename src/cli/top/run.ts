import { setTimeout as delay } from 'node:timers/promises'
import type { Cli, GlobalOptions } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import { visibleJson } from '../text/visible.ts'
import { paintLine, renderFrame, type ScreenSize } from './frame.ts'
import { Screen } from './screen.ts'
import { TopSource } from './source.ts'

export type TopOptions = {
  /** Milliseconds between two looks. */
  readonly intervalMs: number
  readonly once: boolean
}

/** Ends a live view as it would end the process, but with the terminal given back. */
const endingSignals = ['SIGTERM', 'SIGHUP', 'SIGQUIT'] as const

/** Why the view ended: null where the person wanted it, else the signal that did. */
type Ending = NodeJS.Signals | null

/**
 * Shows the daemon until q, Ctrl-C or a signal: live on a terminal, one frame with `once`, JSON lines with `--json`.
 * Throws CliError, OutputClosed and the errors of src/client/ that no waiting ends.
 */
export async function runTop(cli: Cli, options: GlobalOptions, top: TopOptions): Promise<void> {
  const canShow = cli.output.isTerminal && cli.env['TERM'] !== 'dumb'
  if (!top.once && options.json !== true && !canShow)
    throw usageError(
      'a live view needs a terminal that can show one',
      'print one frame with --once, or lines of JSON with --json',
    )
  const stop = new AbortController()
  const source = new TopSource(options, stop.signal)
  const onInterrupt = (): void => stop.abort(null)
  const onSignal = (signal: NodeJS.Signals): void => stop.abort(signal)
  process.on('SIGINT', onInterrupt)
  for (const signal of endingSignals) process.on(signal, onSignal)
  try {
    if (options.json === true) await printLines(cli, source, top, stop.signal)
    else if (top.once) await printFrame(cli, source, top, stop.signal)
    else await showLive(cli, source, top, stop)
  } catch (error) {
    if (!stop.signal.aborted) throw error
  } finally {
    process.off('SIGINT', onInterrupt)
    for (const signal of endingSignals) process.off(signal, onSignal)
    await source.close()
  }
  const ending: Ending = stop.signal.aborted ? (stop.signal.reason as Ending) : null
  // With the default disposition again, so that whoever waits for the process learns what ended it.
  if (ending !== null) process.kill(process.pid, ending)
}

/** Two looks, since rates need two. */
async function printFrame(cli: Cli, source: TopSource, top: TopOptions, signal: AbortSignal): Promise<void> {
  await source.ask()
  await delay(top.intervalMs, undefined, { signal })
  await source.ask()
  const size = frameSize(cli)
  const lines = renderFrame(source.state, size)
  const text = lines.map((line) => `${paintLine(line, size.columns, cli.output.paint).trimEnd()}\n`)
  await cli.output.write(text.join(''))
}

/** The terminal's size; for a program what COLUMNS and LINES say, else 80 by 24. */
function frameSize({ output, env }: Cli): ScreenSize {
  const said = (name: string, fallback: number): number => {
    const value = /^[1-9]\d{0,2}$/.test(env[name] ?? '') ? Number(env[name]) : fallback
    return Math.min(value, 500)
  }
  return output.terminalSize ?? { columns: said('COLUMNS', 80), rows: said('LINES', 24) }
}

async function printLines(cli: Cli, source: TopSource, top: TopOptions, signal: AbortSignal): Promise<void> {
  if (top.once) {
    await source.ask()
    await delay(top.intervalMs, undefined, { signal })
    await cli.output.write(`${visibleJson(await source.ask())}\n`)
    return
  }
  for (;;) {
    const startedMs = performance.now()
    const { data, away } = await source.look()
    await cli.output.write(`${visibleJson(away === null ? data : { away })}\n`)
    await rest(startedMs, top, signal)
  }
}

async function showLive(cli: Cli, source: TopSource, top: TopOptions, stop: AbortController): Promise<void> {
  const { signal } = stop
  const draw = (): Promise<void> => screen.draw(renderFrame(source.state, screen.size))
  const screen = new Screen(cli.output, cli.stdin.isTTY === true ? cli.stdin : null, {
    onQuit: () => stop.abort(null),
    // Where nobody reads any more, the next look notices.
    onStale: () => void draw().catch(() => undefined),
  })
  try {
    await screen.enter()
    await draw()
    for (;;) {
      const startedMs = performance.now()
      await orAborted(source.look(), signal)
      await draw()
      await rest(startedMs, top, signal)
    }
  } finally {
    screen.leave()
  }
}

/** Waits until an interval has passed since `startedMs`, and a little in any case: a slow daemon is not pressed. */
async function rest(startedMs: number, { intervalMs }: TopOptions, signal: AbortSignal): Promise<void> {
  const leftMs = startedMs + intervalMs - performance.now()
  await delay(Math.max(leftMs, intervalMs / 4), undefined, { signal })
}

/** As `promise`, but rejects as soon as `signal` is aborted: connecting to a daemon that hangs cannot be ended. */
async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort = (): void => undefined
  const abortion = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort)
  })
  try {
    return await Promise.race([promise, abortion])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
