import type { Command } from 'commander'
import { type Cli, globalOptions, print } from '../cli.ts'
import { CliError } from '../cli-error.ts'
import { withClient } from '../session.ts'
import { flatten, formatPairs } from '../text/values.ts'

/** `purser status` and `purser health`. */
export function addStatusCommands(program: Command, cli: Cli): void {
  program
    .command('status')
    .description('show version, uptime, counts, cache and key source of the daemon')
    .action(async (_options: unknown, command: Command) => {
      const options = globalOptions(command)
      const status = await withClient(options, (client) => client.call('system.status'))
      await print(cli, options, status, (answer) => formatPairs(flatten(answer)))
    })

  program
    .command('health')
    .description('say whether the daemon is ok; exit code 3 where it is not')
    .action(async (_options: unknown, command: Command) => {
      const options = globalOptions(command)
      const health = await withClient(options, (client) => client.call('system.health'))
      await print(cli, options, health, ({ status, checks }) =>
        formatPairs([['status', status], ...flatten(checks)]),
      )
      if (health.status !== 'ok')
        throw new CliError('checkFailed', `the daemon is ${health.status}`, 'see the checks above')
    })
}
