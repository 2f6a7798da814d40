import type { Command } from 'commander'
import type { Credential, PurserClient } from '../../client/index.ts'
import { runChild } from '../child.ts'
import { childEnvironment, losesNodeOptions } from '../child-env.ts'
import { type Cli, globalOptions, hint, note } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import { parseCredentialId } from '../input/arguments.ts'
import { collectFieldMap, type FieldMap, type Secrets } from '../input/bot-names.ts'
import { withClient } from '../session.ts'

type ExecOptions = {
  readonly user: string
  readonly credential?: number
  readonly map?: FieldMap
  readonly quiet?: boolean
}

function secretsOf(credential: Credential): Secrets {
  const { apiKey, apiSecret, passphrase, privateKey } = credential
  return {
    apiKey,
    apiSecret,
    ...(passphrase === null ? {} : { passphrase }),
    ...(privateKey === null ? {} : { privateKey }),
  }
}

/** Why there is no private key to give; null where there is one. */
async function whyNoPrivateKey(
  client: PurserClient,
  user: string,
  credential: Credential,
): Promise<string | null> {
  if (credential.privateKey !== null) return null
  const { credentialId } = credential
  const { hasPrivateKey } = await client.call('credentials.get', { userId: user, credentialId })
  return hasPrivateKey
    ? 'the credential is sign-only: its private key never leaves the daemon, so the bot gets none'
    : 'the credential has no private key, so the bot gets none'
}

function sayWhatThisIs(cli: Cli, user: string, credential: Credential, command: string): void {
  const name = credential.name === null ? '' : ` (${credential.name})`
  note(
    cli,
    `credential ${credential.credentialId}${name} of ${user} goes into the environment of ${command}, ` +
      'where every library it loads can read it',
  )
  hint(
    cli,
    'this is the way to move over, not the goal: let the bot ask purser itself, then make the key sign-only',
  )
}

/** `purser exec --user U -- COMMAND ARGS`. */
export function addExecCommand(program: Command, cli: Cli): void {
  program
    .command('exec')
    .usage('--user <USER> [options] -- COMMAND [ARGS...]')
    .argument('<COMMAND...>')
    .description('run an unmodified bot with a credential in its environment')
    .requiredOption('--user <USER>', 'whose credential')
    .option('--credential <ID>', "its id; without one, the user's primary", parseCredentialId)
    .option(
      '--map <FIELD=NAME>',
      'also under this name: apiKey, apiSecret, passphrase or privateKey',
      collectFieldMap,
    )
    .option('--quiet', 'say nothing about what this means')
    .action(async (words: string[], exec: ExecOptions, leaf: Command) => {
      if (!cli.argv.includes('--'))
        throw usageError('the command comes after --', 'purser exec --user USER -- COMMAND ARGS')
      const [command = '', ...args] = words
      const options = globalOptions(leaf)
      const { credential, noKey } = await withClient(options, async (client) => {
        const opened = await client.call('credentials.retrieve', {
          userId: exec.user,
          credentialId: exec.credential,
        })
        return { credential: opened, noKey: await whyNoPrivateKey(client, exec.user, opened) }
      })
      if (exec.quiet !== true) sayWhatThisIs(cli, exec.user, credential, command)
      if (noKey !== null && exec.quiet !== true) note(cli, noKey)
      if (losesNodeOptions(cli.env) && exec.quiet !== true)
        note(cli, 'NODE_OPTIONS is not passed on; where the bot needs it: -- env NODE_OPTIONS=... COMMAND')
      const env = childEnvironment(cli.env, secretsOf(credential), exec.map)
      process.exitCode = await runChild(command, args, env)
    })
}
