import type { Command } from 'commander'
import type { CredentialUsage } from '../../client/index.ts'
import { type Cli, globalOptions, print } from '../cli.ts'
import { type FetchPage, followPages, printPages } from '../pages.ts'
import { withClient } from '../session.ts'
import { addSpendActs, parseCredentialOption } from './spend-acts.ts'
import { describeSpendStatus, usageColumns } from './spend-view.ts'

/** `purser spend ...`. */
export function addSpendCommands(program: Command, cli: Cli): void {
  const spend = program
    .command('spend')
    .description('limits, what is used of them, and the acts that use them')
  addStatus(spend, cli)
  addUsage(spend, cli)
  addSpendActs(spend, cli)
}

function addStatus(spend: Command, cli: Cli): void {
  spend
    .command('status')
    .description('show the limits of a user, what is used of them and the worst that can happen')
    .requiredOption('--user <USER>', 'whose')
    .option('--credential <ID>', 'with the daily limit of this one; the primary', parseCredentialOption)
    .action(async ({ user, credential }: { user: string; credential?: number }, command: Command) => {
      const options = globalOptions(command)
      const status = await withClient(options, (client) =>
        client.call('spend.status', { userId: user, credentialId: credential }),
      )
      await print(cli, options, status, (answer) => describeSpendStatus(answer, cli.output))
    })
}

function addUsage(spend: Command, cli: Cli): void {
  spend
    .command('usage')
    .description('list the credentials that have a daily limit, most used first')
    .action(async (_options: unknown, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, async (client) => {
        const fetchPage: FetchPage<CredentialUsage> = async (page) => {
          const { usage: rows, nextCursor } = await client.call('spend.usage', page)
          return { rows, nextCursor }
        }
        const view = { plural: 'usage', columns: usageColumns(cli.output.terminalColumns) }
        await printPages(cli, options, view, followPages(fetchPage, Number.POSITIVE_INFINITY))
      })
    })
}
