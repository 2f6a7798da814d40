import { statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Where to connect, and every path that was looked at on the way (for the error that says so). */
export type SocketPath = { readonly path: string; readonly tried: readonly string[] }

/**
 * The daemon's socket: `explicit`, else `PURSER_SOCKET`, else the first that is there of
 * `$XDG_RUNTIME_DIR/purser/purser.sock` (a user's own daemon), `/run/purser/purser.sock` (the system's) and
 * `purser.sock` in the user's data directory, which is also the answer where none is there.
 */
export function resolveSocketPath(
  explicit: string | undefined,
  env: Readonly<Record<string, string | undefined>> = process.env,
): SocketPath {
  const named = explicit ?? (env['PURSER_SOCKET'] || undefined)
  if (named !== undefined) return { path: named, tried: [named] }
  const runtime = env['XDG_RUNTIME_DIR']
  const candidates = [
    ...(runtime ? [join(runtime, 'purser', 'purser.sock')] : []),
    '/run/purser/purser.sock',
    join(env['XDG_DATA_HOME'] || join(homedir(), '.local', 'share'), 'purser', 'purser.sock'),
  ]
  const path = candidates.find(isThere) ?? candidates[candidates.length - 1]!
  return { path, tried: candidates.slice(0, candidates.indexOf(path) + 1) }
}

/** A path that may not be looked at counts as there: connecting to it then tells of the permission, not of absence. */
function isThere(path: string): boolean {
  try {
    statSync(path)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES'
  }
}
