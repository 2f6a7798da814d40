import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import type { AuditEntry, PurserClient } from '../../client/index.ts'
import { type Cli, type GlobalOptions, globalOptions, note } from '../cli.ts'
import { parseDurationMs, parseInteger } from '../input/arguments.ts'
import type { Output } from '../output.ts'
import { withClient } from '../session.ts'
import { entriesAfter } from '../tail.ts'
import { createTable } from '../text/table.ts'
import { visibleJson } from '../text/visible.ts'
import { addFilterOptions, type EntryFilter, entryColumns, fetchEntries } from './audit-entries.ts'

/** A poll is an indexed read of one page; more than five a second would only be load. */
const leastIntervalMs = 200

/** How often the reader of stdout is looked for; it costs a system call. */
const readerMs = 100

type TailOptions = EntryFilter & {
  readonly lines: number
  readonly interval: number
  readonly follow: boolean
}

/** `purser audit tail`. */
export function addTailCommand(audit: Command, cli: Cli): void {
  addFilterOptions(audit.command('tail').description('print the last entries, then new ones as they come'))
    .option('-n, --lines <N>', 'entries to begin with', (text) => parseInteger(text, '--lines', 0, 1000), 10)
    .option(
      '--interval <TIME>',
      'how often to look for new ones (1s)',
      (text) => Math.max(leastIntervalMs, parseDurationMs(text, '--interval')),
      1000,
    )
    .option('--no-follow', 'stop after the last entries')
    .action(async (tail: TailOptions, command: Command) => {
      const options = globalOptions(command)
      const stop = new AbortController()
      const onInterrupt = (): void => stop.abort()
      process.once('SIGINT', onInterrupt)
      try {
        await withClient(options, (client) => follow(cli, options, client, tail, stop.signal))
      } catch (error) {
        // Ctrl-C is how a tail ends.
        if (!stop.signal.aborted) throw error
      } finally {
        process.off('SIGINT', onInterrupt)
      }
    })
}

async function follow(
  cli: Cli,
  options: GlobalOptions,
  client: PurserClient,
  tail: TailOptions,
  signal: AbortSignal,
): Promise<void> {
  const fetchPage = fetchEntries(client, tail, signal)
  const printEntries = entryPrinter(cli, options)
  // With -n 0 one entry is asked for all the same: its seq is where to go on.
  const first = await fetchPage({ limit: Math.max(1, tail.lines) })
  let lastSeq = first.rows[0]?.seq ?? 0
  await printEntries(first.rows.slice(0, tail.lines).reverse())
  while (tail.follow) {
    await pause(cli.output, tail.interval, signal)
    const { entries, skipped } = await entriesAfter(fetchPage, lastSeq)
    if (skipped) note(cli, `more entries than can be shown; some after seq ${lastSeq} are left out`)
    await printEntries(entries)
    lastSeq = entries.at(-1)?.seq ?? lastSeq
  }
}

/** Waits, and throws OutputClosed soon after the reader has gone: `| head` is to end when it has its lines. */
async function pause(output: Output, intervalMs: number, signal: AbortSignal): Promise<void> {
  const endsAt = performance.now() + intervalMs
  for (let leftMs = intervalMs; leftMs > 0; leftMs = endsAt - performance.now()) {
    await output.checkReader()
    await delay(Math.min(leftMs, readerMs), undefined, { signal })
  }
}

/** One entry a line: JSON under --json, else a table whose widths the first entries decide. */
function entryPrinter(cli: Cli, options: GlobalOptions): (entries: readonly AuditEntry[]) => Promise<void> {
  const { output } = cli
  if (options.json === true)
    return (entries) => output.write(entries.map((entry) => `${visibleJson(entry)}\n`).join(''))
  const table = createTable(entryColumns, { terminalColumns: output.terminalColumns, paint: output.paint })
  return async (entries) => {
    if (entries.length > 0) await output.write(table(entries))
  }
}
