import { type Command, Option } from 'commander'
import type { Params, Position, PositionState } from '../../client/index.ts'
import { type Cli, globalOptions, print } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import { type FetchPage, followPages, printPages } from '../pages.ts'
import { withClient } from '../session.ts'
import type { Column } from '../text/table.ts'
import { flatten, formatPairs, shown } from '../text/values.ts'

/** From here on a terminal has room for every column. */
const wideTerminalColumns = 120

/** The table of `positions list`. */
export function positionColumns(terminalColumns: number | null): readonly Column<Position>[] {
  const columns: readonly Column<Position>[] = [
    { title: 'ID', value: (position) => position.positionId, whole: true },
    { title: 'CRED', value: (position) => shown(position.credentialId), align: 'right', keep: true },
    { title: 'AMOUNT', value: (position) => position.amountUsd, align: 'right', whole: true },
    { title: 'OPEN', value: (position) => position.openUsd, align: 'right', whole: true },
    { title: 'STATE', value: (position) => position.state, keep: true },
    { title: 'OPENED', value: (position) => shown(position.openedAt), keep: true },
  ]
  const trade: Column<Position> = { title: 'TRADE', value: (position) => shown(position.tradeId) }
  if (terminalColumns !== null && terminalColumns < wideTerminalColumns) return [...columns, trade]
  return [...columns, { title: 'CLOSED', value: (position) => shown(position.closedAt) }, trade]
}

/** `purser positions [list]` and `close`. */
export function addPositionCommands(program: Command, cli: Cli): void {
  const positions = program
    .command('positions')
    .description('what captured and recorded amounts bought')
    .addHelpText('after', '\nWithout a command `list` is meant: `purser positions list --help`.')
  addList(positions, cli)
  addClose(positions, cli)
}

type ListOptions = { readonly user: string; readonly state?: PositionState }

function addList(positions: Command, cli: Cli): void {
  positions
    .command('list', { isDefault: true })
    .description('list the positions of a user, oldest first')
    .requiredOption('--user <USER>', 'whose')
    .addOption(new Option('--state <STATE>', 'only those in this state').choices(['open', 'closed']))
    .action(async ({ user, state }: ListOptions, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, async (client) => {
        const fetchPage: FetchPage<Position> = async (page) => {
          const answer = await client.call('positions.list', { ...page, userId: user, state })
          return { rows: answer.positions, nextCursor: answer.nextCursor }
        }
        const view = { plural: 'positions', columns: positionColumns(cli.output.terminalColumns) }
        await printPages(cli, options, view, followPages(fetchPage, Number.POSITIVE_INFINITY))
      })
    })
}

type CloseOptions = {
  readonly user: string
  readonly trade?: string
  readonly amount?: string
  readonly idempotencyKey?: string
}

/** The params of `positions.close`. Throws CliError `usage` unless POSITION or --trade names the position. */
export function closeParams(positionId: string | undefined, close: CloseOptions): Params<'positions.close'> {
  const { user: userId, trade: tradeId, amount: amountUsd, idempotencyKey } = close
  const rest = { userId, amountUsd, idempotencyKey }
  if (positionId !== undefined && tradeId === undefined) return { ...rest, positionId }
  if (tradeId !== undefined && positionId === undefined) return { ...rest, tradeId }
  throw usageError(
    'which position? name it by its id or by --trade',
    'see `purser positions list --user USER`',
  )
}

function addClose(positions: Command, cli: Cli): void {
  positions
    .command('close')
    .argument('[POSITION]', 'its id')
    .description('free the exposure of a position that is no longer open')
    .requiredOption('--user <USER>', 'whose it is')
    .option('--trade <ID>', 'the position of this trade, in place of its id')
    .option('--amount <USD>', 'close so much of its cost; all that is open')
    .option('--idempotency-key <KEY>', 'makes a repetition the same act, for ever')
    .action(async (positionId: string | undefined, close: CloseOptions, command: Command) => {
      const options = globalOptions(command)
      const params = closeParams(positionId, close)
      const answer = await withClient(options, (client) => client.call('positions.close', params))
      await print(cli, options, answer, (closed) => formatPairs(flatten(closed)))
    })
}
