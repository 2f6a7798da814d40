import { resolve } from 'node:path'
import type { Command } from 'commander'
import { type Cli, globalOptions, print } from '../cli.ts'
import { longTimeoutMs, withClient } from '../session.ts'
import { flatten, formatPairs } from '../text/values.ts'

/** `purser backup [PATH]`. */
export function addBackupCommand(program: Command, cli: Cli): void {
  program
    .command('backup')
    .argument('[PATH]', 'where to; it must not exist, and the daemon must be able to write there')
    .description('let the daemon write a consistent copy of its store')
    .action(async (path: string | undefined, _options: unknown, command: Command) => {
      const options = globalOptions(command)
      // The daemon has another working directory, and refuses relative paths.
      const absolute = path === undefined ? undefined : resolve(path)
      const backup = await withClient(
        options,
        (client) => client.call('backup.create', { path: absolute }),
        longTimeoutMs,
      )
      await print(cli, options, backup, (answer) => formatPairs(flatten(answer)))
    })
}
