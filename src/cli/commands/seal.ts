import type { Command } from 'commander'
import { isPurserError, type Params, type Result } from '../../client/index.ts'
import { type Cli, type GlobalOptions, globalOptions, note, print } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import type { KeyInput } from '../input/master-key.ts'
import { withClient } from '../session.ts'
import { shown } from '../text/values.ts'

/** A source in the network takes up to 26 s with all its tries, and wrong keys of others are answered one a second. */
const unsealTimeoutMs = 120_000

type UnsealOptions = KeyInput & { readonly fromSource?: boolean; readonly create?: boolean }

/** `purser seal` and `purser unseal`. */
export function addSealCommands(program: Command, cli: Cli): void {
  program
    .command('seal')
    .description('wipe the master key and everything opened with it from the daemon, until an unseal')
    .action(async (_options: unknown, command: Command) => await seal(cli, globalOptions(command)))

  program
    .command('unseal')
    .description('give the daemon its master key: asked for and not shown, or read from stdin')
    .option('--key-file <FILE>', 'read the key from this file')
    .option('--from-source', 'give none: the daemon reads its configured source again')
    .option('--create', 'make the store, for a daemon that was started --sealed without one')
    .addHelpText('after', '\nAn empty answer, and an empty stdin, are --from-source.')
    .action(async (unseal: UnsealOptions, command: Command) => {
      if (unseal.fromSource === true && unseal.keyFile !== undefined)
        throw usageError('--from-source takes no key', 'leave --key-file or --from-source out')
      await unsealWith(cli, globalOptions(command), unseal)
    })
}

async function seal(cli: Cli, options: GlobalOptions): Promise<void> {
  try {
    // A seal twice is one seal: a connection that breaks is no reason to leave it undone.
    const answer = await withClient(options, (client) => client.call('system.seal', {}, { resend: true }))
    await print(cli, options, answer, ({ since }) => `sealed since ${shown(since)}\n`)
  } catch (error) {
    if (isPurserError(error, 'StorageUnavailable'))
      note(cli, 'the key is wiped, but the seal is not stored: seal again before the daemon is restarted')
    throw error
  }
}

async function unsealWith(cli: Cli, options: GlobalOptions, unseal: UnsealOptions): Promise<void> {
  const params = await unsealParams(cli, unseal)
  const answer = await withClient(options, (client) => client.call('system.unseal', params), unsealTimeoutMs)
  await print(cli, options, answer, describe)
}

async function unsealParams(
  cli: Cli,
  { fromSource, create, ...input }: UnsealOptions,
): Promise<Params<'system.unseal'>> {
  if (fromSource === true) return { create }
  // They load the key sources and the vault, which no other command here needs.
  const { readMasterKey } = await import('../input/master-key.ts')
  const { encodeMasterKeyBase64 } = await import('../../keysource/parse-key.ts')
  const key = await readMasterKey(cli, input, 'Master key (not shown; empty: from its configured source):')
  if (key === null) return { create }
  const text = encodeMasterKeyBase64(key)
  try {
    return { masterKey: text.toString('latin1'), create }
  } finally {
    key.fill(0)
    text.fill(0)
  }
}

function describe({ keyId, epoch, storeCreated }: Result<'system.unseal'>): string {
  const made = storeCreated ? ', for a new store' : ''
  return `unsealed with key ${keyId}, epoch ${epoch}${made}\n`
}
