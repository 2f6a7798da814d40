import type { Command } from 'commander'
import type { Params, Result } from '../../client/index.ts'
import { type Cli, globalOptions, note, print } from '../cli.ts'
import { parseCredentialId, parseInteger } from '../input/arguments.ts'
import type { Secrets } from '../input/bot-names.ts'
import { readCredentialSecrets, type SecretSources } from '../input/credential-secrets.ts'
import { withClient } from '../session.ts'
import { flatten, formatPairs } from '../text/values.ts'
import { describeCredential } from './credential-view.ts'

/** How a new credential is kept, beside its secrets. */
export type StoreOptions = {
  readonly user: string
  readonly name?: string
  readonly daily?: string
  readonly expiresIn?: number
  readonly expiresAt?: string
  readonly primary?: boolean
  readonly signOnly?: boolean
}

/** The options of `credentials add` and `credentials import` that say how the credential is kept. */
export function addStoreOptions(command: Command): Command {
  return command
    .requiredOption('--user <USER>', 'whose it is; an unknown user is made, tier free')
    .option('--name <NAME>', 'a name to tell it by')
    .option('--daily <USD>', 'its own daily limit')
    .option('--expires-in <DAYS>', 'days until it expires, 1 to 3650', (text) =>
      parseInteger(text, '--expires-in', 1, 3650),
    )
    .option('--expires-at <TIME>', 'RFC 3339 time at which it expires')
    .option('--primary', 'make it the primary; the first of a user is anyway')
    .option('--sign-only', 'never hand the private key out: purser signs with it')
}

/** The params of `credentials.store`. */
export function storeParams(options: StoreOptions, secrets: Secrets): Params<'credentials.store'> {
  const { apiKey = '', apiSecret = '', passphrase, privateKey } = secrets
  const common = {
    userId: options.user,
    apiKey,
    apiSecret,
    passphrase,
    privateKey,
    name: options.name,
    dailySpendLimitUsd: options.daily,
    isPrimary: options.primary,
    privateKeyPolicy: options.signOnly === true ? ('sign-only' as const) : undefined,
  }
  // Both forms at once are refused by the daemon, which says so.
  const expiry = { expiresInDays: options.expiresIn, expiresAt: options.expiresAt } as {
    expiresInDays?: number
  }
  return { ...common, ...expiry }
}

/** The answer of a store for people. */
export function describeStored(stored: Result<'credentials.store'>): string {
  return formatPairs(flatten(stored))
}

function addSourceOptions(command: Command): Command {
  return command
    .option('--stdin', 'read the secrets from stdin: a JSON object or NAME=VALUE lines')
    .option('--api-key <KEY>', 'the API key itself, which is no secret (it stands in every order)')
    .option('--api-key-env <NAME>', 'take the API key from this environment variable')
    .option('--api-secret-env <NAME>', 'take the API secret from this environment variable')
    .option('--passphrase-env <NAME>', 'take the API passphrase from this environment variable')
    .option('--private-key-env <NAME>', 'take the private key from this environment variable')
    .addHelpText(
      'after',
      '\nWithout a source the secrets are asked for and not shown. None is ever taken from the command line.',
    )
}

/** `purser credentials add` and `replace`. */
export function addStoreCommands(credentials: Command, cli: Cli): void {
  addSourceOptions(addStoreOptions(credentials.command('add').description('store a credential'))).action(
    async (add: StoreOptions & SecretSources, command: Command) => {
      const options = globalOptions(command)
      const params = storeParams(add, await readCredentialSecrets(cli, add))
      const stored = await withClient(options, (client) => client.call('credentials.store', params))
      await print(cli, options, stored, describeStored)
    },
  )

  const replace = credentials
    .command('replace')
    .argument('<CREDENTIAL>', 'its id', parseCredentialId)
    .description('put new secrets into a credential; an absent passphrase or private key stays')
    .requiredOption('--user <USER>', 'whose it is')
  addSourceOptions(replace).action(
    async (
      credentialId: number,
      { user, ...sources }: SecretSources & { user: string },
      command: Command,
    ) => {
      const options = globalOptions(command)
      const { apiKey = '', apiSecret = '', ...rest } = await readCredentialSecrets(cli, sources)
      const credential = await withClient(options, (client) =>
        client.call('credentials.replace', { userId: user, credentialId, apiKey, apiSecret, ...rest }),
      )
      await print(cli, options, credential, describeCredential)
      if (credential.status === 'revoked') note(cli, 'the credential is revoked and stays so')
    },
  )
}
