import { Command } from 'commander'
import { version } from '../version.ts'
import type { Cli } from './cli.ts'
import { addAuditCommands } from './commands/audit.ts'
import { addBackupCommand } from './commands/backup.ts'
import { addClientCommands } from './commands/clients.ts'
import { addCredentialCommands } from './commands/credentials.ts'
import { addExecCommand } from './commands/exec.ts'
import { addFreezeCommands } from './commands/freeze.ts'
import { addInitCommand } from './commands/init.ts'
import { addKeyCommands } from './commands/key.ts'
import { addLimitCommands } from './commands/limits.ts'
import { addMasterCommands } from './commands/master.ts'
import { addPositionCommands } from './commands/positions.ts'
import { addReservationCommands } from './commands/reservations.ts'
import { addRpcCommand } from './commands/rpc.ts'
import { addSealCommands } from './commands/seal.ts'
import { addSpendCommands } from './commands/spend.ts'
import { addStatusCommands } from './commands/status.ts'
import { addTopCommand } from './commands/top.ts'
import { addUserCommands } from './commands/users.ts'
import { exitCodeHelp } from './exit-codes.ts'
import { parseDurationMs } from './input/arguments.ts'
import { refuseSecretArguments } from './input/argv-guard.ts'
import { OutputClosed } from './output.ts'
import { formatReport, reportOf } from './report.ts'

/** The whole command line. Parsing throws CommanderError, the actions whatever reportOf() knows. */
export function createProgram(cli: Cli): Command {
  const program = new Command('purser')
    .description('talk to purserd, which keeps Polymarket credentials for the bots on this host')
    .version(version, '--version')
    .option('--socket <PATH>', "the daemon's socket; default: PURSER_SOCKET, else the usual places")
    .option('--json', 'print the raw answer as JSON, for programs')
    .option(
      '--timeout <TIME>',
      'how long to wait for an answer, like 5s (30s; 10m for long commands)',
      (text) => parseDurationMs(text, '--timeout'),
    )
    .option(
      '--token-file <FILE>',
      'file with the token of the client entry to be; default: PURSER_TOKEN, PURSER_TOKEN_FILE',
    )
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void cli.output.write(text).catch(() => undefined),
      writeErr: (text) => void cli.stderr.write(text),
      // Errors are reported in one place, in the form of all others.
      outputError: () => undefined,
    })
    .addHelpText('after', `\nThe options above go before or after the command.\n\n${exitCodeHelp}`)
  addStatusCommands(program, cli)
  addUserCommands(program, cli)
  addCredentialCommands(program, cli)
  addSpendCommands(program, cli)
  addReservationCommands(program, cli)
  addPositionCommands(program, cli)
  addLimitCommands(program, cli)
  addFreezeCommands(program, cli)
  addSealCommands(program, cli)
  addClientCommands(program, cli)
  addAuditCommands(program, cli)
  addTopCommand(program, cli)
  addBackupCommand(program, cli)
  addKeyCommands(program, cli)
  addMasterCommands(program, cli)
  addRpcCommand(program, cli)
  addExecCommand(program, cli)
  addInitCommand(program, cli)
  return program
}

function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--')
  return (end < 0 ? argv : argv.slice(0, end)).includes('--json')
}

/** Runs one command line; answers the exit code of a failure, or null where there was none. Never throws. */
export async function run(cli: Cli): Promise<number | null> {
  try {
    refuseSecretArguments(cli.argv)
    await createProgram(cli).parseAsync([...cli.argv], { from: 'user' })
    return null
  } catch (error) {
    if (error instanceof OutputClosed) return null
    const report = reportOf(error)
    if (report === null) return null
    cli.stderr.write(formatReport(report, wantsJson(cli.argv)))
    return report.exitCode
  }
}
