import type { Command } from 'commander'
import { type Cli, globalOptions, print } from '../cli.ts'
import { CliError } from '../cli-error.ts'
import { refuseSecretParams } from '../input/argv-guard.ts'
import { decodeText } from '../input/bounded.ts'
import { parseJsonObject, readStdin } from '../input/credential-secrets.ts'
import { withClient } from '../session.ts'
import { visibleJson } from '../text/visible.ts'

/** Params from the command line, or from stdin where `-` stands for them. Throws CliError. */
export async function readParams(cli: Cli, argument: string | undefined): Promise<Record<string, unknown>> {
  if (argument === undefined) return {}
  if (argument !== '-') {
    const params = parseJsonObject(argument, 'JSON', 'usage')
    refuseSecretParams(params)
    return params
  }
  const bytes = await readStdin(cli)
  try {
    return parseJsonObject(decodeText(bytes, 'stdin'), 'stdin')
  } finally {
    bytes.fill(0)
  }
}

/** `purser rpc METHOD [JSON]`. */
export function addRpcCommand(program: Command, cli: Cli): void {
  program
    .command('rpc')
    .argument('<METHOD>', 'as on the wire: system.ping')
    .argument('[JSON]', 'the params as a JSON object; `-` reads them from stdin')
    .description('call any method and print its answer as JSON')
    .addHelpText('after', '\n`purser rpc rpc.discover` lists every method. Secrets go in by stdin only.')
    .action(async (method: string, json: string | undefined, _options: unknown, command: Command) => {
      if (!/^[A-Za-z][A-Za-z0-9_.]{0,127}$/.test(method))
        throw new CliError(
          'usage',
          'METHOD is a name like system.ping',
          '`purser rpc rpc.discover` lists them',
        )
      const options = globalOptions(command)
      const params = await readParams(cli, json)
      const answer = await withClient(options, (client) => client.call<string>(method, params))
      await print(cli, options, answer, (value) => `${visibleJson(value, 2)}\n`)
    })
}
