import { resolve } from 'node:path'
import type { Command } from 'commander'
import { defaultDataDirectory } from '../../config/directories.ts'
import { StartError } from '../../errors.ts'
import { type Cli, globalOptions, print } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import { type Initialised, initialise } from '../data-directory.ts'

/** Where purserd looks when no flag says so. Throws CliError `usage` where the user has no home directory. */
function configuredDataDir(env: Cli['env']): string {
  try {
    return env['PURSER_DATA_DIR'] || defaultDataDirectory(env)
  } catch (cause) {
    if (cause instanceof StartError) throw usageError(cause.message, cause.hint)
    throw cause
  }
}

function describeNextSteps({ dataDir, masterKeyFile, keyId }: Initialised, isDefault: boolean): string {
  const flag = isDefault ? '' : ` --data-dir ${dataDir}`
  return `made ${dataDir} (0700) and ${masterKeyFile} (0600), key id ${keyId}

next:
  1. copy ${masterKeyFile} to a safe place, away from the store and its backups:
     without it no credential can ever be opened again, with both everything can
  2. start the daemon, as this user: purserd${flag}
  3. store a credential: purser credentials add --user NAME
     or take over a bot's file: purser credentials import .env --user NAME
`
}

/** `purser init`. */
export function addInitCommand(program: Command, cli: Cli): void {
  program
    .command('init')
    .description('make the data directory and a master key; needs no daemon')
    .option('--data-dir <DIR>', "purserd's data directory")
    .action(async ({ dataDir }: { dataDir?: string }, command: Command) => {
      const made = initialise(resolve(dataDir ?? configuredDataDir(cli.env)))
      await print(cli, globalOptions(command), made, (answer) =>
        describeNextSteps(answer, dataDir === undefined),
      )
    })
}
