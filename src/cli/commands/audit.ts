import type { Command } from 'commander'
import { type Cli, globalOptions, print } from '../cli.ts'
import { CliError } from '../cli-error.ts'
import { parseInteger, parseSince } from '../input/arguments.ts'
import { followPages, printPages } from '../pages.ts'
import { longTimeoutMs, withClient } from '../session.ts'
import { type Column, createTable } from '../text/table.ts'
import { formatPairs, shown } from '../text/values.ts'
import {
  addFilterOptions,
  type EntryFilter,
  entryColumns,
  fetchEntries,
  type Window,
} from './audit-entries.ts'
import { addTailCommand } from './audit-tail.ts'

/** `purser audit tail|query|verify|failures`. */
export function addAuditCommands(program: Command, cli: Cli): void {
  const audit = program.command('audit').description('the audit log')
  addTailCommand(audit, cli)
  addQuery(audit, cli)
  addVerify(audit, cli)
  addFailures(audit, cli)
}

type QueryOptions = EntryFilter & Window & { readonly limit: number; readonly all?: boolean }

function addQuery(audit: Command, cli: Cli): void {
  addFilterOptions(audit.command('query').description('list entries, newest first'))
    .option('--since <TIME>', 'RFC 3339, or how long ago: 15m, 24h, 7d')
    .option('--until <TIME>', 'RFC 3339, or how long ago')
    .option(
      '--limit <N>',
      'at most so many',
      (text) => parseInteger(text, '--limit', 1, Number.MAX_SAFE_INTEGER),
      100,
    )
    .option('--all', 'no limit')
    .action(async (query: QueryOptions, command: Command) => {
      const options = globalOptions(command)
      const nowMs = Date.now()
      const filter = {
        ...query,
        ...(query.since === undefined ? {} : { since: parseSince(query.since, nowMs) }),
        ...(query.until === undefined ? {} : { until: parseSince(query.until, nowMs) }),
      }
      const most = query.all === true ? Number.POSITIVE_INFINITY : query.limit
      const view = { plural: 'entries', columns: entryColumns }
      await withClient(options, (client) =>
        printPages(cli, options, view, followPages(fetchEntries(client, filter), most)),
      )
    })
}

function addVerify(audit: Command, cli: Cli): void {
  audit
    .command('verify')
    .description('check the hash chain; exit code 3 where it is broken')
    .option('--from-seq <SEQ>', 'from this entry on', (text) =>
      parseInteger(text, '--from-seq', 0, Number.MAX_SAFE_INTEGER),
    )
    .action(async ({ fromSeq }: { fromSeq?: number }, command: Command) => {
      const options = globalOptions(command)
      const verdict = await withClient(
        options,
        (client) => client.call('audit.verify', { fromSeq }),
        longTimeoutMs,
      )
      await print(cli, options, verdict, (answer) =>
        formatPairs([
          ['chain', answer.ok ? 'ok' : 'BROKEN'],
          ['entries', shown(answer.entries)],
          ['head', `${answer.headSeq} ${answer.headHash}`],
          ['first bad seq', shown(answer.firstBadSeq)],
          ['MACs checked', shown(answer.macChecked)],
        ]),
      )
      if (!verdict.ok)
        throw new CliError(
          'checkFailed',
          `the audit chain is broken at seq ${shown(verdict.firstBadSeq)}`,
          'entries from there on were altered, removed or damaged: keep a copy of the store and look into it',
        )
    })
}

type Failure = { readonly userId: string; readonly failures: number }

function addFailures(audit: Command, cli: Cli): void {
  audit
    .command('failures')
    .description('users whose retrieves failed suspiciously often')
    .option('--hours <N>', 'within so many hours (24)', (text) => parseInteger(text, '--hours', 1, 1_000_000))
    .option('--over <N>', 'more than so many failures (10)', (text) =>
      parseInteger(text, '--over', 0, 1_000_000_000),
    )
    .action(async (window: { hours?: number; over?: number }, command: Command) => {
      const options = globalOptions(command)
      const answer = await withClient(options, (client) => client.call('audit.failures', window))
      const columns: readonly Column<Failure>[] = [
        { title: 'USER', value: (user) => user.userId, keep: true },
        { title: 'FAILURES', value: (user) => String(user.failures), align: 'right' },
      ]
      const { terminalColumns, paint } = cli.output
      await print(cli, options, answer, ({ users }) =>
        users.length === 0
          ? 'no user has that many failures\n'
          : createTable(columns, { terminalColumns, paint })(users),
      )
    })
}
