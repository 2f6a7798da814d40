import type { Command } from 'commander'
import type { Client, Params, Scope } from '../../client/index.ts'
import { type Cli, globalOptions, hint, note, print } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import { orNull, parseInteger } from '../input/arguments.ts'
import { parseKernelId } from '../input/kernel-ids.ts'
import { type FetchPage, followPages, printPages } from '../pages.ts'
import { withClient } from '../session.ts'
import type { Column } from '../text/table.ts'
import { flatten, formatPairs, shown } from '../text/values.ts'

const listed = (values: readonly (string | number)[] | '*') => (values === '*' ? '*' : values.join(','))

const clientColumns: readonly Column<Client>[] = [
  { title: 'ID', value: (client) => String(client.clientId), align: 'right', keep: true },
  { title: 'NAME', value: (client) => client.name, keep: true },
  { title: 'TOLD BY', value: toldBy },
  { title: 'USERS', value: (client) => listed(client.users) },
  {
    title: 'CREDENTIALS',
    value: (client) => (client.credentials === null ? 'all' : listed(client.credentials)),
  },
  { title: 'SCOPES', value: (client) => listed(client.scopes), keep: true },
  { title: 'EXPIRES', value: (client) => shown(client.expiresAt) },
  { title: 'LAST USED', value: (client) => shown(client.lastUsedAt) },
]

function toldBy({ uid, gid, hasToken }: Client): string {
  const ways = [
    ...(uid === null ? [] : [`uid ${uid}`]),
    ...(gid === null ? [] : [`gid ${gid}`]),
    ...(hasToken ? ['token'] : []),
  ]
  return ways.join(' and ')
}

const describeClient = (client: Client): string => formatPairs(flatten(client))

const parseClientId = (argument: string) => parseInteger(argument, 'CLIENT', 1, Number.MAX_SAFE_INTEGER)

/** `purser clients add|list|update|remove`. */
export function addClientCommands(program: Command, cli: Cli): void {
  const clients = program
    .command('clients')
    .description('who may ask: programs, and what each of them may do')
  addAdd(clients, cli)

  clients
    .command('list')
    .description('list every entry')
    .action(async (_options: unknown, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, async (client) => {
        const fetchPage: FetchPage<Client> = async (page) => {
          const { clients: rows, nextCursor } = await client.call('clients.list', page)
          return { rows, nextCursor }
        }
        const pages = followPages(fetchPage, Number.POSITIVE_INFINITY)
        await printPages(cli, options, { plural: 'clients', columns: clientColumns }, pages)
      })
    })

  addUpdate(clients, cli)

  clients
    .command('remove')
    .argument('<CLIENT>', 'its id', parseClientId)
    .description('take everything from it, from the answer on, on every connection')
    .action(async (clientId: number, _options: unknown, command: Command) => {
      const options = globalOptions(command)
      const answer = await withClient(options, (client) => client.call('clients.remove', { clientId }))
      await print(cli, options, answer, () => `removed client ${clientId}\n`)
    })
}

type GrantOptions = {
  readonly users?: string
  readonly allUsers?: boolean
  readonly credentials?: string
  readonly scopes?: string
  readonly expiresAt?: string
}

type AddOptions = GrantOptions & {
  readonly uid?: string
  readonly gid?: string
  readonly withToken?: boolean
}

/** The params of `clients.add`. Throws CliError `usage`. */
export function addParams(name: string, options: AddOptions): Params<'clients.add'> {
  const { users, credentials, scopes } = grantParams(options)
  if (users === undefined) throw usageError('for which users? give --users or --all-users')
  if (scopes === undefined) throw usageError('to do what? give --scopes')
  if (credentials === null) throw usageError('--credentials takes ids')
  const { uid, gid, withToken, expiresAt } = options
  if (uid === undefined && gid === undefined && withToken !== true)
    throw usageError('by what is it told? give --uid, --gid, --with-token or several of them')
  return {
    name,
    ...(uid === undefined ? {} : { uid: parseKernelId('uid', uid) }),
    ...(gid === undefined ? {} : { gid: parseKernelId('gid', gid) }),
    ...(withToken === true ? { token: true as const } : {}),
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(credentials === undefined ? {} : { credentials }),
    users,
    scopes,
  }
}

/** The params of `clients.update`. Throws CliError `usage`, also where nothing would change. */
export function updateParams(clientId: number, options: GrantOptions): Params<'clients.update'> {
  const changes = {
    ...grantParams(options),
    ...(options.expiresAt === undefined ? {} : { expiresAt: orNull(options.expiresAt) }),
  }
  if (Object.keys(changes).length === 0)
    throw usageError('nothing to change', 'see `purser clients update --help`')
  return { clientId, ...changes }
}

function grantParams({ users, allUsers, credentials, scopes }: GrantOptions): {
  users?: '*' | string[]
  credentials?: number[] | null
  scopes?: Scope[]
} {
  if (users !== undefined && allUsers === true) throw usageError('--users and --all-users exclude each other')
  const ids = () => splitList(credentials!).map((id) => parseInteger(id, '--credentials', 1, 2 ** 53 - 1))
  return {
    ...(allUsers === true ? { users: '*' as const } : {}),
    ...(users === undefined ? {} : { users: splitList(users) }),
    ...(credentials === undefined ? {} : { credentials: orNull(credentials) === null ? null : ids() }),
    // What is no scope the daemon says.
    ...(scopes === undefined ? {} : { scopes: splitList(scopes) as Scope[] }),
  }
}

function splitList(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

const scopesHelp =
  'of credentials:read, credentials:write, spend, sign, settle, audit:read, freeze, admin; with commas between'

function addAdd(clients: Command, cli: Cli): void {
  clients
    .command('add')
    .argument('<NAME>', 'a name to tell it by')
    .description('let a program ask; all it is told by must match')
    .option('--uid <UID>', 'the uid it runs under, by number or name')
    .option('--gid <GID>', 'a group it runs in, by number or name')
    .option('--with-token', 'make a token that it presents; printed this once')
    .option('--users <USERS>', 'the users it may act for, with commas between')
    .option('--all-users', 'every user that exists')
    .option('--credentials <IDS>', 'only these of their credentials, with commas between')
    .option('--scopes <SCOPES>', scopesHelp)
    .option('--expires-at <TIME>', 'RFC 3339; from then on it counts as none')
    .action(async (name: string, add: AddOptions, command: Command) => {
      const options = globalOptions(command)
      const params = addParams(name, add)
      const added = await withClient(options, (client) => client.call('clients.add', params))
      await print(cli, options, added, ({ clientId, token }) => `${token ?? `added client ${clientId}`}\n`)
      if (added.token === null) return
      note(cli, `client ${added.clientId}; its token is told this once and nowhere kept`)
      hint(cli, 'put it into a file of mode 0600 that only the bot can read, and name that PURSER_TOKEN_FILE')
    })
}

function addUpdate(clients: Command, cli: Cli): void {
  clients
    .command('update')
    .argument('<CLIENT>', 'its id', parseClientId)
    .description('change what it may do; what is not given stays')
    .option('--users <USERS>', 'the users it may act for, with commas between')
    .option('--all-users', 'every user that exists')
    .option('--credentials <IDS>', 'only these of their credentials; `none`: all of them')
    .option('--scopes <SCOPES>', scopesHelp)
    .option('--expires-at <TIME>', 'RFC 3339; a past time ends it at once, `none` removes the expiry')
    .action(async (clientId: number, update: GrantOptions, command: Command) => {
      const options = globalOptions(command)
      const params = updateParams(clientId, update)
      const changed = await withClient(options, (client) => client.call('clients.update', params))
      await print(cli, options, changed, describeClient)
    })
}
