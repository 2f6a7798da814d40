import { checkTimeout } from './call.ts'
import { resolveSocketPath, type SocketPath } from './socket-path.ts'
import { tokenSource } from './token.ts'

/** How to connect; everything may be left out. */
export type ConnectOptions = {
  /**
   * The daemon's socket. Default: `PURSER_SOCKET`, else the first that is there of
   * `$XDG_RUNTIME_DIR/purser/purser.sock`, `/run/purser/purser.sock` and `purser.sock` in
   * `$XDG_DATA_HOME/purser` (`~/.local/share/purser`). Looked for once, at `connect`.
   */
  socketPath?: string | undefined
  /**
   * Token of the client entry (`prs_...`), presented first on every connection. Default: `PURSER_TOKEN`, else the content
   * of `tokenFile`; without one, the uid counts.
   */
  token?: string | undefined
  /** A file with the token, mode 0600, read at each connection. Default: `PURSER_TOKEN_FILE`, else none. */
  tokenFile?: string | undefined
  /** Name and version of the program (`market-maker/1.4`), shown in the audit log. Default: none. */
  client?: string | undefined
  /** Milliseconds for connecting, and for each call that says nothing else, waiting included. Default 10,000. */
  timeoutMs?: number | undefined
  /** Connect again when the connection breaks and there are calls to send. Default true. */
  reconnect?: boolean | undefined
  /** Requests sent and not answered at any time, 1 to 256 (beyond that the daemon stops reading). Default 200. */
  maxInFlight?: number | undefined
  /** Calls that may wait beyond those in flight; more are rejected with QueueFullError. Default 16,384. */
  maxWaiting?: number | undefined
  /** The longest answer taken, in bytes; a longer one is a ProtocolError. Default 64 MiB. */
  maxAnswerBytes?: number | undefined
}

/** The options with every default filled in. */
export type ResolvedOptions = {
  readonly where: SocketPath
  /** Asked at each connection; throws TokenError. */
  readonly token: () => string | undefined
  readonly client: string | undefined
  readonly timeoutMs: number
  readonly reconnect: boolean
  readonly maxInFlight: number
  readonly maxWaiting: number
  readonly maxAnswerBytes: number
}

const mebibyte = 1024 * 1024

/** Throws TypeError for an option out of range. */
export function resolveOptions(options: ConnectOptions): ResolvedOptions {
  const timeoutMs = options.timeoutMs ?? 10_000
  checkTimeout(timeoutMs)
  return {
    where: resolveSocketPath(options.socketPath),
    token: tokenSource(options),
    client: options.client,
    timeoutMs,
    reconnect: options.reconnect ?? true,
    maxInFlight: inRange('maxInFlight', options.maxInFlight ?? 200, 1, 256),
    maxWaiting: inRange('maxWaiting', options.maxWaiting ?? 16_384, 0, 1_000_000),
    // V8 holds no string over 512 MiB.
    maxAnswerBytes: inRange('maxAnswerBytes', options.maxAnswerBytes ?? 64 * mebibyte, 1024, 256 * mebibyte),
  }
}

function inRange(name: string, value: number, least: number, most: number): number {
  if (!Number.isSafeInteger(value) || value < least || value > most)
    throw new TypeError(`${name} must be an integer from ${least} to ${most}`)
  return value
}
