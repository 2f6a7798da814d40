import { createRequire } from 'node:module'
import { isAbsolute, join, resolve } from 'node:path'
import type envPaths from 'env-paths'
import { StartError } from '../errors.ts'

/** Environment variables by name. Names are listed, values are read only where named. */
export type Environment = Readonly<Record<string, string | undefined>>

/** The longest path a Unix socket can have: sun_path holds 108 bytes, the last of them zero. */
export const socketPathBytesMax = 107

/** systemd gives several directories as a colon list, in the order of the unit. */
function firstOfList(value: string | undefined): string | null {
  const first = value?.split(':', 1)[0]
  return first === undefined || first === '' ? null : resolve(first)
}

/**
 * `~/.local/share/purser` or its like. env-paths is loaded only here: it asks for the home directory as soon as it is
 * loaded and throws where the uid has none, which must not stop a daemon that was told where its data is.
 */
export function userDataDirectory(): string {
  let directory: string
  try {
    const load = createRequire(import.meta.url)
    const module = load('env-paths') as { default: typeof envPaths }
    directory = module.default('purser', { suffix: '' }).data
  } catch (error) {
    throw new StartError(
      'config',
      'this user has no home directory for the data',
      'give --data-dir DIR',
      error,
    )
  }
  if (isAbsolute(directory)) return directory
  throw new StartError('config', 'HOME or XDG_DATA_HOME is not an absolute path', 'give --data-dir DIR')
}

/** Where the store lies when nothing says so: systemd's StateDirectory, else the user's data directory. */
export function defaultDataDirectory(env: Environment): string {
  return firstOfList(env['STATE_DIRECTORY']) ?? userDataDirectory()
}

/** Where the socket lies when nothing says so: systemd's RuntimeDirectory, the user's runtime directory, the data's. */
export function defaultSocketPath(env: Environment, dataDir: string): string {
  const systemd = firstOfList(env['RUNTIME_DIRECTORY'])
  if (systemd !== null) return join(systemd, 'purser.sock')
  const user = env['XDG_RUNTIME_DIR']
  // The XDG specification says to ignore a relative one.
  if (user !== undefined && isAbsolute(user)) return join(user, 'purser', 'purser.sock')
  return join(dataDir, 'purser.sock')
}
