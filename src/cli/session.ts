import { connect, type PurserClient } from '../client/index.ts'
import { version } from '../version.ts'
import type { GlobalOptions } from './cli.ts'
import { CliError } from './cli-error.ts'
import { decodeText, readFileBounded } from './input/bounded.ts'

const defaultTimeoutMs = 30_000
/** For what walks or copies a whole store. */
export const longTimeoutMs = 600_000

/** A token is 47 bytes; a longer file is another one. */
const maxTokenFileBytes = 1024

async function readToken(path: string): Promise<string> {
  const bytes = await readFileBounded(path, maxTokenFileBytes)
  try {
    const token = decodeText(bytes, path).trim()
    if (token === '')
      throw new CliError('badInput', `${path} is empty`, 'it must hold the token of clients.add')
    return token
  } finally {
    bytes.fill(0)
  }
}

/** Connects as the global options say. `reconnect` as in src/client/. Errors are those of `connect`, and CliError. */
export async function openClient(
  options: GlobalOptions,
  { timeoutMs = defaultTimeoutMs, reconnect = true }: { timeoutMs?: number; reconnect?: boolean } = {},
): Promise<PurserClient> {
  return connect({
    socketPath: options.socket,
    token: options.tokenFile === undefined ? undefined : await readToken(options.tokenFile),
    timeoutMs: options.timeout ?? timeoutMs,
    client: `purser-cli/${version}`,
    reconnect,
  })
}

/** Runs `act` on a connection to the daemon and closes it. Errors are those of src/client/ and of `act`. */
export async function withClient<T>(
  options: GlobalOptions,
  act: (client: PurserClient) => Promise<T>,
  timeoutMs: number = defaultTimeoutMs,
): Promise<T> {
  const client = await openClient(options, { timeoutMs })
  try {
    return await act(client)
  } finally {
    await client.close()
  }
}
