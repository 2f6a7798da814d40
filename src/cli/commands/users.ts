import { type Command, Option } from 'commander'
import type { Params, User } from '../../client/index.ts'
import { type Cli, globalOptions, print } from '../cli.ts'
import { orNull, parseInteger } from '../input/arguments.ts'
import { type FetchPage, followPages, printPages } from '../pages.ts'
import { withClient } from '../session.ts'
import type { Column } from '../text/table.ts'
import { flatten, formatPairs, shown } from '../text/values.ts'

const userColumns: readonly Column<User>[] = [
  { title: 'USER', value: (user) => user.userId, keep: true },
  { title: 'TIER', value: (user) => user.tier },
  { title: 'PER TRADE', value: (user) => user.limits.perTradeUsd, align: 'right' },
  { title: 'DAILY', value: (user) => user.limits.dailyUsd, align: 'right' },
  { title: 'EXPOSURE', value: (user) => user.limits.exposureUsd, align: 'right' },
  {
    title: 'FROZEN',
    value: (user) => (user.frozen === null ? '-' : user.frozen.reason),
    colour: (user) => (user.frozen === null ? null : 'red'),
  },
  { title: 'EMAIL', value: (user) => shown(user.email) },
  { title: 'CREATED', value: (user) => shown(user.createdAt) },
]

const describeUser = (user: User): string => formatPairs(flatten(user))

/** `purser users list|get|put|reset-decryptions`. */
export function addUserCommands(program: Command, cli: Cli): void {
  const users = program.command('users').description('users, their tiers and limits')

  users
    .command('list')
    .description('list every user')
    .action(async (_options: unknown, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, async (client) => {
        const fetchPage: FetchPage<User> = async (page) => {
          const { users: rows, nextCursor } = await client.call('users.list', page)
          return { rows, nextCursor }
        }
        await printPages(
          cli,
          options,
          { plural: 'users', columns: userColumns },
          followPages(fetchPage, Number.POSITIVE_INFINITY),
        )
      })
    })

  users
    .command('get')
    .argument('<USER>')
    .description('show one user')
    .action(async (userId: string, _options: unknown, command: Command) => {
      const options = globalOptions(command)
      const user = await withClient(options, (client) => client.call('users.get', { userId }))
      await print(cli, options, user, describeUser)
    })

  addPut(users, cli)

  users
    .command('reset-decryptions')
    .argument('<USER>')
    .description("empty the user's decryption window, after `rate limited`")
    .action(async (userId: string, _options: unknown, command: Command) => {
      const options = globalOptions(command)
      const answer = await withClient(options, (client) => client.call('users.resetDecryptions', { userId }))
      await print(cli, options, answer, ({ cleared }) => `cleared ${cleared} decryptions\n`)
    })
}

type PutOptions = {
  readonly tier?: string
  readonly email?: string
  readonly perTrade?: string
  readonly daily?: string
  readonly exposure?: string
  readonly settlement?: 'operator' | 'cooperative'
  readonly maxSignaturesPerMinute?: string
}

/** The params of `users.put`: what is not given stays as it is, `none` goes back to the tier. */
export function putParams(userId: string, options: PutOptions): Params<'users.put'> {
  const limits = {
    ...(options.perTrade === undefined ? {} : { perTradeUsd: orNull(options.perTrade) }),
    ...(options.daily === undefined ? {} : { dailyUsd: orNull(options.daily) }),
    ...(options.exposure === undefined ? {} : { exposureUsd: orNull(options.exposure) }),
  }
  const signatures = options.maxSignaturesPerMinute
  return {
    userId,
    ...(options.tier === undefined ? {} : { tier: options.tier }),
    ...(options.email === undefined ? {} : { email: orNull(options.email) }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
    ...(options.settlement === undefined ? {} : { settlement: options.settlement }),
    ...(signatures === undefined ? {} : { maxSignaturesPerMinute: parseSignatures(signatures) }),
  }
}

function parseSignatures(argument: string): number | null {
  return orNull(argument) === null
    ? null
    : parseInteger(argument, '--max-signatures-per-minute', 0, Number.MAX_SAFE_INTEGER)
}

function addPut(users: Command, cli: Cli): void {
  users
    .command('put')
    .argument('<USER>')
    .description('make a user or change one; what is not given stays')
    .option('--tier <TIER>', 'free, basic, pro, premium or one of the configuration')
    .option('--email <ADDRESS>', '`none` removes it')
    .option('--per-trade <USD>', 'the most one trade may cost; `none`: what the tier says')
    .option('--daily <USD>', 'the most one UTC day may cost; `none`: what the tier says')
    .option('--exposure <USD>', 'the most all open positions may have cost; `none`: what the tier says')
    .addOption(
      new Option('--settlement <WHO>', 'who may free signed reservations').choices([
        'operator',
        'cooperative',
      ]),
    )
    .option('--max-signatures-per-minute <N>', '`none` removes the bound')
    .action(async (userId: string, put: PutOptions, command: Command) => {
      const options = globalOptions(command)
      const params = putParams(userId, put)
      const user = await withClient(options, (client) => client.call('users.put', params))
      await print(cli, options, user, describeUser)
    })
}
