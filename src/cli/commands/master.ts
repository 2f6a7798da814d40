import type { Command } from 'commander'
import type { MasterStatus, PurserClient } from '../../client/index.ts'
import { type Cli, type GlobalOptions, globalOptions, note, print } from '../cli.ts'
import { CliError } from '../cli-error.ts'
import { withClient } from '../session.ts'
import { formatPairs, shown } from '../text/values.ts'
import { watchJob } from './master-progress.ts'

type RotateOptions = { readonly ask?: boolean; readonly newKeyFile?: string; readonly wait: boolean }

const noWait = ['--no-wait', 'do not wait for the end of the job, which goes on by itself'] as const

/** `purser master rotate|reseal|status`. */
export function addMasterCommands(program: Command, cli: Cli): void {
  const master = program.command('master').description('the master key of the store: rotate it')
  master
    .command('rotate')
    .description('seal every credential anew under a new master key, while requests are served')
    .option('--ask', 'give the new key: asked for, not shown, or read from stdin')
    .option('--new-key-file <FILE>', 'give the new key: it is in this file')
    .option(...noWait)
    .addHelpText(
      'after',
      '\nWithout a key purserd makes one, where it may replace the file that its key comes from. Else: rotate, let the\n' +
        'key source hand out the new key, then `purser unseal` without a key (docs/keys.md).',
    )
    .action(async (rotate: RotateOptions, command: Command) => {
      const options = globalOptions(command)
      const newMasterKey = await newKeyOf(cli, rotate)
      await withClient(options, async (client) => {
        const { jobId } = await client.call('master.rotate', newMasterKey === null ? {} : { newMasterKey })
        await end(cli, options, client, jobId, rotate.wait)
      })
    })
  master
    .command('reseal')
    .description('seal every credential anew under the same key, at the configured kdf.* cost')
    .option(...noWait)
    .action(async ({ wait }: { wait: boolean }, command: Command) => {
      const options = globalOptions(command)
      await withClient(options, async (client) => {
        const { jobId } = await client.call('master.reseal')
        await end(cli, options, client, jobId, wait)
      })
    })
  master
    .command('status')
    .description('tell which master key opens the store, and how far a job is')
    .action(async (_options: unknown, command: Command) => {
      const options = globalOptions(command)
      const status = await withClient(options, (client) => client.call('master.status'))
      await print(cli, options, status, describe)
    })
}

/** The key to rotate to, as text for the wire; null where purserd is to make it. What reads keys is loaded for it alone. */
async function newKeyOf(cli: Cli, { ask, newKeyFile }: RotateOptions): Promise<string | null> {
  if (ask !== true && newKeyFile === undefined) return null
  const { requireMasterKey } = await import('../input/master-key.ts')
  const { encodeMasterKeyBase64 } = await import('../../keysource/parse-key.ts')
  const { keyIdOf } = await import('../../vault/keyring.ts')
  const input = newKeyFile === undefined ? {} : { keyFile: newKeyFile }
  const key = await requireMasterKey(cli, input, 'New master key (not shown):')
  try {
    note(cli, `the new key has key id ${keyIdOf(key)}`)
    return encodeMasterKeyBase64(key).toString('latin1')
  } finally {
    key.fill(0)
  }
}

async function end(
  cli: Cli,
  options: GlobalOptions,
  client: PurserClient,
  jobId: string,
  wait: boolean,
): Promise<void> {
  if (!wait) {
    await print(
      cli,
      options,
      { jobId },
      () => `job ${jobId} has begun: \`purser master status\` tells how far it is\n`,
    )
    return
  }
  const status = await watchJob(cli, client)
  await print(cli, options, status, describe)
  if (status.job?.state === 'failed') {
    throw new CliError(
      'refused',
      'the job failed: the log of purserd and the audit log say why',
      status.oldKeyRetired
        ? 'nothing was changed'
        : 'replace the credentials that do not open, then `purser master reseal`',
    )
  }
  if (!status.oldKeyRetired)
    note(
      cli,
      'the old key opens the store too: let the key source hand out the new one, then `purser unseal` without a key',
    )
}

function describe({ epoch, keyId, oldKeyRetired, job }: MasterStatus): string {
  return formatPairs([
    ['key id', keyId],
    ['epoch', String(epoch)],
    ['old key retired', shown(oldKeyRetired)],
    ['job', job === null ? '-' : `${job.kind}, ${job.state}`],
    ['sealed anew', job === null ? '-' : `${job.done} of ${job.total}`],
  ])
}
