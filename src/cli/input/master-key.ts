import { StartError } from '../../errors.ts'
import { readKeyFile } from '../../keysource/key-file.ts'
import { type MasterKeyBytes, parseMasterKey } from '../../keysource/parse-key.ts'
import { offHeapCopy } from '../../secret.ts'
import type { Cli } from '../cli.ts'
import { CliError } from '../cli-error.ts'
import { readBounded } from './bounded.ts'
import { Prompter } from './prompt.ts'

/** Where a master key comes from; no option holds one. */
export type KeyInput = { readonly keyFile?: string }

/** A key is at most 64 digits; the rest is room for white space. */
const keyTextBytesMax = 4_096

/**
 * The master key from the file, else from stdin, which on a terminal is asked for and not shown; null where that is
 * empty. The caller wipes it. Throws CliError.
 */
export async function readMasterKey(
  cli: Cli,
  { keyFile }: KeyInput,
  question = 'Master key (not shown):',
): Promise<MasterKeyBytes | null> {
  if (keyFile !== undefined) return await readFile(keyFile)
  const text = cli.stdin.isTTY
    ? await askForKey(cli, question)
    : await readBounded(cli.stdin, keyTextBytesMax, 'stdin')
  try {
    const key = parseMasterKey(text)
    if (key !== null) return key
    // Not trimmed into a string: what is no key may be one that was mistyped.
    if (text.every((byte) => byte <= 0x20)) return null
  } finally {
    text.fill(0)
  }
  throw noMasterKey()
}

/** As readMasterKey, for who cannot do without: an empty stdin is an error too. */
export async function requireMasterKey(
  cli: Cli,
  input: KeyInput,
  question?: string,
): Promise<MasterKeyBytes> {
  const key = await readMasterKey(cli, input, question)
  if (key === null) throw noMasterKey()
  return key
}

/** What stands on stdin is no key. */
function noMasterKey(): CliError {
  return new CliError(
    'badInput',
    'stdin holds no master key',
    'it must be 32 bytes as base64, base64url or hex, and nothing else: `purser key new` makes one',
  )
}

async function readFile(path: string): Promise<MasterKeyBytes> {
  try {
    return await readKeyFile(path, 'owner-and-mode')
  } catch (error) {
    if (!(error instanceof StartError)) throw error
    throw new CliError(error.exitCode === 78 ? 'badInput' : 'noInput', error.message, error.hint, error)
  }
}

async function askForKey(cli: Cli, text: string): Promise<Buffer> {
  const prompter = new Prompter(cli.stdin, cli.stderr)
  try {
    return offHeapCopy(Buffer.from(await prompter.ask({ text, echo: false })))
  } finally {
    prompter.close()
  }
}
