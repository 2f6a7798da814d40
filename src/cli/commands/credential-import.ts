import type { Command } from 'commander'
import { type Cli, type GlobalOptions, globalOptions, note, print } from '../cli.ts'
import { CliError } from '../cli-error.ts'
import { collectFieldMap, type FieldMap, type TakenSecrets, takeSecrets } from '../input/bot-names.ts'
import { decodeText, readFileBounded } from '../input/bounded.ts'
import { parseEnvFile } from '../input/env-file.ts'
import { withClient } from '../session.ts'
import { addStoreOptions, describeStored, type StoreOptions, storeParams } from './credential-store.ts'

/** Far above any .env; a larger file is another one. */
const maxEnvFileBytes = 1_048_576

type ImportOptions = StoreOptions & { readonly dryRun?: boolean; readonly map?: FieldMap }

type Import = TakenSecrets & { readonly unreadableLines: readonly number[] }

/** Reads the secrets of a .env file. Throws CliError, without any value of the file. */
export async function readEnvFile(path: string, map: FieldMap = {}): Promise<Import> {
  const bytes = await readFileBounded(path, maxEnvFileBytes)
  try {
    const { entries, unreadableLines } = parseEnvFile(decodeText(bytes, path))
    return { ...takeSecrets(entries, map), unreadableLines }
  } finally {
    bytes.fill(0)
  }
}

/** What was found in the file, in names alone. */
export function describeImport(path: string, found: Import): string[] {
  const lines = found.taken.map(({ field, name }) => `took ${field} from ${name}`)
  if (found.empty.length > 0) lines.push(`empty, so not taken: ${found.empty.join(', ')}`)
  if (found.ignored.length > 0) lines.push(`ignored: ${found.ignored.join(', ')}`)
  if (found.unreadableLines.length > 0)
    lines.push(`not NAME=VALUE, so not read: line ${found.unreadableLines.join(', ')} of ${path}`)
  return lines
}

/** What the user has to do after the secrets are stored. */
export function nextSteps(path: string, found: Import): string[] {
  const names = found.taken.map(({ name }) => name).join(', ')
  const file = shellQuote(path)
  const leftovers = found.otherSecrets.length > 0
  return [
    'next:',
    '  1. let the bot ask purser, or start it with `purser exec` for now, and see that it works',
    found.ignored.length === 0
      ? `  2. then delete the file: shred -u ${file}`
      : `  2. then remove these lines from ${path}: ${names}`,
    ...(leftovers
      ? [`     it also holds what look like other secrets: ${found.otherSecrets.join(', ')}`]
      : []),
    '     copies may live on in backups, editors and, on SSDs or copy-on-write file systems, on the disk',
    '  3. if the file was ever committed to git, sent or baked into an image, the keys are known: make a new API',
    '     key at the exchange, move the funds to a new wallet, and revoke this credential',
  ]
}

function shellQuote(path: string): string {
  return /^[A-Za-z0-9_./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`
}

function requireKeyAndSecret(path: string, { secrets }: TakenSecrets): void {
  const missing = (['apiKey', 'apiSecret'] as const).filter((field) => secrets[field] === undefined)
  if (missing.length === 0) return
  const onlyKey = secrets.privateKey !== undefined && missing.length === 2
  throw new CliError(
    'badInput',
    `${path} has no ${missing.join(' and no ')} under a name that purser knows`,
    onlyKey
      ? 'the bot derives its API key at every start: print it once with createOrDeriveApiKey of its client library, and put it into the file'
      : `say which name it has: --map ${missing[0]}=NAME`,
  )
}

/** `purser credentials import FILE`. */
export function addImportCommand(credentials: Command, cli: Cli): void {
  const command = credentials
    .command('import')
    .argument('<FILE>', 'a .env file of a bot')
    .description('store a credential from the .env file of a bot')
  addStoreOptions(command)
    .option(
      '--map <FIELD=NAME>',
      'take apiKey, apiSecret, passphrase or privateKey from this name',
      collectFieldMap,
    )
    .option('--dry-run', 'only say what would be taken; ask nothing of the daemon')
    .action(async (path: string, choice: ImportOptions, leaf: Command) => {
      const options = globalOptions(leaf)
      const found = await readEnvFile(path, choice.map)
      for (const line of describeImport(path, found)) note(cli, line)
      requireKeyAndSecret(path, found)
      if (choice.dryRun === true) return printDryRun(cli, options, found)
      const params = storeParams(choice, found.secrets)
      const stored = await withClient(options, (client) => client.call('credentials.store', params))
      await print(cli, options, stored, describeStored)
      for (const line of nextSteps(path, found)) note(cli, line)
    })
}

async function printDryRun(cli: Cli, options: GlobalOptions, found: Import): Promise<void> {
  const { taken, ignored, empty, unreadableLines } = found
  await print(cli, options, { taken, ignored, empty, unreadableLines }, () => 'dry run: nothing was stored\n')
}
