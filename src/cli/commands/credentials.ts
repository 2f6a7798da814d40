import { type Command, Option } from 'commander'
import type { Credential, CredentialMetadata, CredentialStatus } from '../../client/index.ts'
import { type Cli, globalOptions, print } from '../cli.ts'
import { CliError, usageError } from '../cli-error.ts'
import { parseCredentialId, parseInteger } from '../input/arguments.ts'
import { confirm } from '../input/credential-secrets.ts'
import { type FetchPage, followPages, printPages } from '../pages.ts'
import { withClient } from '../session.ts'
import { flatten, formatPairs } from '../text/values.ts'
import { visible } from '../text/visible.ts'
import { addCredentialChanges } from './credential-changes.ts'
import { addImportCommand } from './credential-import.ts'
import { addStoreCommands } from './credential-store.ts'
import { describeCredential, listView } from './credential-view.ts'

/** `purser credentials ...`. */
export function addCredentialCommands(program: Command, cli: Cli): void {
  const credentials = program.command('credentials').description('stored Polymarket credentials')
  addStoreCommands(credentials, cli)
  addImportCommand(credentials, cli)
  addList(credentials, cli)
  addExpiring(credentials, cli)
  addShow(credentials, cli)
  addGet(credentials, cli)
  addCredentialChanges(credentials, cli)
}

function addList(credentials: Command, cli: Cli): void {
  credentials
    .command('list')
    .description('list credentials, without their secrets')
    .option('--user <USER>', 'only those of this user')
    .addOption(
      new Option('--status <STATUS>', 'only those with this status').choices([
        'active',
        'revoked',
        'expired',
      ]),
    )
    .action(async (filter: { user?: string; status?: CredentialStatus }, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, async (client) => {
        const fetchPage: FetchPage<CredentialMetadata> = async (page) => {
          const answer = await client.call('credentials.list', {
            ...page,
            userId: filter.user,
            status: filter.status,
          })
          return { rows: answer.credentials, nextCursor: answer.nextCursor }
        }
        await printPages(cli, options, listView, followPages(fetchPage, Number.POSITIVE_INFINITY))
      })
    })
}

function addExpiring(credentials: Command, cli: Cli): void {
  credentials
    .command('expiring')
    .description('list credentials that expire soon, soonest first')
    .requiredOption('--days <N>', 'within so many days', (text) => parseInteger(text, '--days', 1, 36_500))
    .action(async ({ days }: { days: number }, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, async (client) => {
        const fetchPage: FetchPage<CredentialMetadata> = async (page) => {
          const answer = await client.call('credentials.expiring', { ...page, withinDays: days })
          return { rows: answer.credentials, nextCursor: answer.nextCursor }
        }
        await printPages(cli, options, listView, followPages(fetchPage, Number.POSITIVE_INFINITY))
      })
    })
}

function addShow(credentials: Command, cli: Cli): void {
  credentials
    .command('show')
    .argument('<CREDENTIAL>', 'its id', parseCredentialId)
    .description('show one credential, without its secrets')
    .requiredOption('--user <USER>', 'whose it is')
    .action(async (credentialId: number, { user }: { user: string }, command: Command) => {
      const options = globalOptions(command)
      const credential = await withClient(options, (client) =>
        client.call('credentials.get', { userId: user, credentialId }),
      )
      await print(cli, options, credential, describeCredential)
    })
}

const retrievedFields = [
  'credentialId',
  'name',
  'apiKey',
  'apiSecret',
  'passphrase',
  'privateKey',
  'address',
  'expiresAt',
] as const satisfies readonly (keyof Credential)[]

type GetOptions = {
  readonly user: string
  readonly yes?: boolean
  readonly field?: (typeof retrievedFields)[number]
}

function addGet(credentials: Command, cli: Cli): void {
  credentials
    .command('get')
    .argument('[CREDENTIAL]', "its id; without one, the user's primary", parseCredentialId)
    .description('retrieve one credential and PRINT ITS SECRETS (audited)')
    .requiredOption('--user <USER>', 'whose it is')
    .option('--yes', 'do not ask before printing secrets')
    .addOption(new Option('--field <NAME>', 'print this one value and nothing else').choices(retrievedFields))
    .action(async (credentialId: number | undefined, get: GetOptions, command: Command) => {
      const options = globalOptions(command)
      await confirmPrinting(cli, get)
      const credential = await withClient(options, (client) =>
        client.call('credentials.retrieve', { userId: get.user, credentialId }),
      )
      const { field } = get
      if (field === undefined) return print(cli, options, credential, (all) => formatPairs(flatten(all)))
      const value = credential[field]
      if (value === null) throw new CliError('notFound', `the credential gives out no ${field}`)
      await print(cli, options, value, (one) => `${visible(String(one))}\n`)
    })
}

/** Asks a person at a terminal; a program has to say --yes. */
async function confirmPrinting(cli: Cli, get: GetOptions): Promise<void> {
  if (get.yes === true) return
  const what = get.field === undefined ? 'secrets' : get.field
  if (!cli.stdin.isTTY)
    throw usageError(`this prints ${what}, and there is no terminal to ask on`, 'say so with --yes')
  await confirm(cli, `this prints ${what} of ${get.user} to ${destination(cli)}; go on?`)
}

function destination(cli: Cli): string {
  return cli.output.isTerminal ? 'this terminal' : 'standard output'
}
