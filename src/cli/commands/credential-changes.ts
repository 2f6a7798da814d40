import type { Command } from 'commander'
import type { Params } from '../../client/index.ts'
import { type Cli, globalOptions, print } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import { orNull, parseCredentialId } from '../input/arguments.ts'
import { longTimeoutMs, withClient } from '../session.ts'
import { describeCredential } from './credential-view.ts'

type UpdateOptions = {
  readonly user: string
  readonly name?: string
  readonly clearName?: boolean
  readonly daily?: string
  readonly expiresAt?: string
  readonly primary?: boolean
  readonly signOnly?: boolean
}

/** The params of `credentials.update`. Throws CliError `usage` where nothing would change. */
export function updateParams(credentialId: number, options: UpdateOptions): Params<'credentials.update'> {
  if (options.name !== undefined && options.clearName === true)
    throw usageError('--name and --clear-name exclude each other')
  const changes = {
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.clearName === true ? { name: null } : {}),
    ...(options.daily === undefined ? {} : { dailySpendLimitUsd: orNull(options.daily) }),
    ...(options.expiresAt === undefined ? {} : { expiresAt: orNull(options.expiresAt) }),
    ...(options.primary === true ? { isPrimary: true as const } : {}),
    ...(options.signOnly === true ? { privateKeyPolicy: 'sign-only' as const } : {}),
  }
  if (Object.keys(changes).length === 0)
    throw usageError('nothing to change', 'see `purser credentials update --help`')
  return { userId: options.user, credentialId, ...changes }
}

/** `purser credentials update|revoke|rotate`. */
export function addCredentialChanges(credentials: Command, cli: Cli): void {
  credentials
    .command('update')
    .argument('<CREDENTIAL>', 'its id', parseCredentialId)
    .description('change what is kept beside the secrets')
    .requiredOption('--user <USER>', 'whose it is')
    .option('--name <NAME>', 'a name to tell it by')
    .option('--clear-name', 'remove the name')
    .option('--daily <USD>', 'its own daily limit; `none` removes it')
    .option('--expires-at <TIME>', 'RFC 3339; a past time expires it at once, `none` removes the expiry')
    .option('--primary', 'make it the primary')
    .option('--sign-only', 'never hand the private key out again; this cannot be undone')
    .action(async (credentialId: number, update: UpdateOptions, command: Command) => {
      const options = globalOptions(command)
      const params = updateParams(credentialId, update)
      const credential = await withClient(options, (client) => client.call('credentials.update', params))
      await print(cli, options, credential, describeCredential)
    })

  credentials
    .command('revoke')
    .argument('<CREDENTIAL>', 'its id', parseCredentialId)
    .description('end a credential for good')
    .requiredOption('--user <USER>', 'whose it is')
    .option('--reason <TEXT>', 'kept with it')
    .action(async (credentialId: number, revoke: { user: string; reason?: string }, command: Command) => {
      const options = globalOptions(command)
      const credential = await withClient(options, (client) =>
        client.call('credentials.revoke', { userId: revoke.user, credentialId, reason: revoke.reason }),
      )
      await print(cli, options, credential, describeCredential)
    })

  credentials
    .command('rotate')
    .argument(
      '[CREDENTIAL]',
      "its id; without one, all of the user's that are not revoked",
      parseCredentialId,
    )
    .description('seal anew with a fresh salt, key and nonce; the secrets stay the same')
    .requiredOption('--user <USER>', 'whose it is')
    .action(async (credentialId: number | undefined, { user }: { user: string }, command: Command) => {
      const options = globalOptions(command)
      const answer = await withClient(
        options,
        (client) => client.call('credentials.rotate', { userId: user, credentialId }),
        longTimeoutMs,
      )
      await print(cli, options, answer, ({ rotated }) => `rotated ${rotated}\n`)
    })
}
