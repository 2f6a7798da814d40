import type { Command } from 'commander'
import { isPurserError, type PurserClient } from '../../client/index.ts'
import { type Cli, type GlobalOptions, globalOptions, note, print } from '../cli.ts'
import { withClient } from '../session.ts'
import { shown } from '../text/values.ts'
import { visible } from '../text/visible.ts'

/** `purser freeze` and `purser unfreeze`. */
export function addFreezeCommands(program: Command, cli: Cli): void {
  program
    .command('freeze')
    .description('stop everything that grants money or hands out secrets: for a user, or for all')
    .option('--user <USER>', 'only this user')
    .requiredOption('--reason <TEXT>', 'told to whoever is refused, and kept in the audit log')
    .action(async ({ user, reason }: { user?: string; reason: string }, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, (client) => freeze(cli, options, client, user, reason))
    })

  program
    .command('unfreeze')
    .description('lift the freeze of a user, or the one of everything')
    .option('--user <USER>', 'only this user')
    .addHelpText(
      'after',
      "\nWithout --user the daemon also takes the machine's clock for right: look at it first (`date -u`)\n" +
        'where the reason of the freeze was `clock`.',
    )
    .action(async ({ user }: { user?: string }, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, (client) => unfreeze(cli, options, client, user))
    })
}

async function freeze(
  cli: Cli,
  options: GlobalOptions,
  client: PurserClient,
  userId: string | undefined,
  reason: string,
): Promise<void> {
  // A freeze twice is one freeze: a connection that breaks is no reason to leave it undone.
  const again = { resend: true }
  try {
    const answer =
      userId === undefined
        ? await client.call('system.freeze', { reason }, again)
        : await client.call('users.freeze', { userId, reason }, again)
    await print(cli, options, answer, ({ frozen }) =>
      visibleLine(`${userId ?? 'everything'} is frozen since ${shown(frozen?.since)}: ${frozen?.reason}`),
    )
  } catch (error) {
    if (isPurserError(error, 'StorageUnavailable'))
      note(
        cli,
        'the freeze is in force, but not stored: it ends with the daemon; freeze again once it can write',
      )
    throw error
  }
}

async function unfreeze(
  cli: Cli,
  options: GlobalOptions,
  client: PurserClient,
  userId: string | undefined,
): Promise<void> {
  if (userId === undefined) {
    const answer = await client.call('system.unfreeze')
    await print(cli, options, answer, () => 'the freeze of everything is lifted; frozen users stay frozen\n')
    return
  }
  const answer = await client.call('users.unfreeze', { userId })
  await print(cli, options, answer, () => visibleLine(`the freeze of ${userId} is lifted`))
  const { checks } = await client.call('system.health')
  const everything = checks['freeze']
  if (everything !== undefined && everything !== 'ok') note(cli, `everything is still ${everything}`)
}

function visibleLine(text: string): string {
  return `${visible(text)}\n`
}
