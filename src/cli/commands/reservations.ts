import { type Command, Option } from 'commander'
import type { Reservation, ReservationState } from '../../client/index.ts'
import { type Cli, globalOptions } from '../cli.ts'
import { type FetchPage, followPages, printPages } from '../pages.ts'
import { withClient } from '../session.ts'
import type { Column } from '../text/table.ts'
import { shown } from '../text/values.ts'

/** From here on a terminal has room for every column. */
const wideTerminalColumns = 140

/** The table of `reservations list`. */
export function reservationColumns(terminalColumns: number | null): readonly Column<Reservation>[] {
  const columns: readonly Column<Reservation>[] = [
    { title: 'ID', value: (hold) => hold.reservationId, whole: true },
    { title: 'CRED', value: (hold) => shown(hold.credentialId), align: 'right', keep: true },
    { title: 'AMOUNT', value: (hold) => hold.amountUsd, align: 'right', whole: true },
    { title: 'CAPTURED', value: (hold) => hold.capturedUsd, align: 'right', whole: true },
    { title: 'STATE', value: (hold) => hold.state, keep: true },
    { title: 'SIGNED', value: (hold) => shown(hold.signed), keep: true },
    { title: 'EXPIRES', value: (hold) => shown(hold.expiresAt), keep: true },
  ]
  if (terminalColumns !== null && terminalColumns < wideTerminalColumns) return columns
  return [
    ...columns,
    { title: 'CREATED', value: (hold) => shown(hold.createdAt) },
    { title: 'POSTED', value: (hold) => shown(hold.postHeadersAt) },
    { title: 'DIGEST', value: (hold) => shown(hold.digest) },
  ]
}

type ListOptions = { readonly user: string; readonly state?: ReservationState; readonly signed?: boolean }

/** `purser reservations [list]`. */
export function addReservationCommands(program: Command, cli: Cli): void {
  program
    .command('reservations')
    .description('holds on the limits, and what became of them')
    .addHelpText('after', '\nWithout a command `list` is meant: `purser reservations list --help`.')
    .command('list', { isDefault: true })
    .description('list the reservations of a user in one state, oldest first')
    .requiredOption('--user <USER>', 'whose')
    .addOption(
      new Option('--state <STATE>', 'held, unless said otherwise').choices([
        'held',
        'captured',
        'voided',
        'expired',
      ]),
    )
    .option('--signed', 'only those of signed orders, which no timeout frees')
    .option('--no-signed', 'only the others')
    .action(async ({ user, state, signed }: ListOptions, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, async (client) => {
        const fetchPage: FetchPage<Reservation> = async (page) => {
          const answer = await client.call('reservations.list', { ...page, userId: user, state, signed })
          return { rows: answer.reservations, nextCursor: answer.nextCursor }
        }
        const view = { plural: 'reservations', columns: reservationColumns(cli.output.terminalColumns) }
        await printPages(cli, options, view, followPages(fetchPage, Number.POSITIVE_INFINITY))
      })
    })
}
