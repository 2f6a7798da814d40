import type { Command } from 'commander'
import type { User } from '../../client/index.ts'
import { type Cli, globalOptions, print } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import { withClient } from '../session.ts'
import { formatPairs, shown } from '../text/values.ts'
import { putParams } from './users.ts'

/** Tier and limits for people; what `before` had otherwise is said beside it. */
export function describeLimits(user: User, before: User = user): string {
  const line = (name: string, value: string, was: string): readonly [string, string] => [
    name,
    value === was ? value : `${value} (was ${was})`,
  ]
  const { limits, frozen } = user
  return formatPairs([
    ['user', user.userId],
    line('tier', user.tier, before.tier),
    line('per trade', limits.perTradeUsd, before.limits.perTradeUsd),
    line('day', limits.dailyUsd, before.limits.dailyUsd),
    line('exposure', limits.exposureUsd, before.limits.exposureUsd),
    ['frozen', frozen === null ? '-' : `since ${shown(frozen.since)}: ${frozen.reason}`],
  ])
}

/** `purser limits show|set`. */
export function addLimitCommands(program: Command, cli: Cli): void {
  const limits = program
    .command('limits')
    .description('the limits of a user')
    .addHelpText(
      'after',
      '\nA credential has a daily limit of its own: `purser credentials update ID --user USER --daily USD`.',
    )

  limits
    .command('show')
    .description('show the tier and the limits in force; `purser spend status` says what is used of them')
    .requiredOption('--user <USER>', 'whose')
    .action(async ({ user }: { user: string }, command: Command) => {
      const options = globalOptions(command)
      const answer = await withClient(options, (client) => client.call('users.get', { userId: user }))
      await print(cli, options, answer, describeLimits)
    })

  addSet(limits, cli)
}

type SetOptions = {
  readonly user: string
  readonly tier?: string
  readonly perTrade?: string
  readonly daily?: string
  readonly exposure?: string
}

function addSet(limits: Command, cli: Cli): void {
  limits
    .command('set')
    .description('change the limits of a user; what is not given stays')
    .requiredOption('--user <USER>', 'whose; `purser users put` makes a new one')
    .option('--tier <TIER>', 'free, basic, pro, premium or one of the configuration')
    .option('--per-trade <USD>', 'the most one trade may cost; `none`: what the tier says')
    .option('--daily <USD>', 'the most one UTC day may cost; `none`: what the tier says')
    .option('--exposure <USD>', 'the most all open positions may have cost; `none`: what the tier says')
    .action(async (set: SetOptions, command: Command) => {
      const options = globalOptions(command)
      const { user: userId, tier, perTrade, daily, exposure } = set
      if ([tier, perTrade, daily, exposure].every((value) => value === undefined))
        throw usageError('nothing to change', 'see `purser limits set --help`')
      await withClient(options, async (client) => {
        // users.put would make the user: a mistyped name must not end up as somebody with limits.
        const before = await client.call('users.get', { userId })
        const after = await client.call('users.put', putParams(userId, set))
        await print(cli, options, after, (user) => describeLimits(user, before))
      })
    })
}
