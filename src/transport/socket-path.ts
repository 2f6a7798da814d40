import { lstatSync, mkdirSync, statSync, unlinkSync } from 'node:fs'
import net from 'node:net'
import { dirname } from 'node:path'
import type { Door } from '../access/identity.ts'
import { StartError } from '../errors.ts'

/** Where to listen: a socket that was handed over, or a path and the mode of the file there. */
export type ListenOn = { readonly fd: number } | { readonly path: string; readonly mode: number }

const adminDirectoryMode = 0o700
const permissionBits = 0o777

/**
 * Makes the directory of a socket, and removes a socket nobody listens on any more. That of the admin socket is to be
 * its own (`mainPath` is not in it), mode 0700, root's or the daemon's. StartError 69 for a path held by a live daemon,
 * 78 for a path or directory that will not do.
 */
export async function prepareSocketPath(path: string, door: Door, mainPath: string | null): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: adminDirectoryMode })
    if (door === 'admin') checkAdminDirectory(dirname(path), mainPath)
    const found = lstatSync(path, { throwIfNoEntry: false })
    if (found === undefined) return
    if (!found.isSocket()) {
      throw new StartError(
        'config',
        `${path} exists and is no socket`,
        `remove it, or name another path with ${flagOf(door)}`,
      )
    }
    if (await answers(path)) {
      throw new StartError(
        'storeUnusable',
        `the socket ${path} is held by a live daemon`,
        `stop it, or name another path with ${flagOf(door)}`,
      )
    }
    unlinkSync(path)
  } catch (error) {
    throw listenError(error, { path }, door)
  }
}

/** What lets others into the directory lets them put a socket of theirs in the place of the daemon's. */
function checkAdminDirectory(directory: string, mainPath: string | null): void {
  const { dev, ino, uid, mode } = statSync(directory)
  const wrong = (what: string, hint: string): StartError =>
    new StartError('config', `the directory of the admin socket, ${directory}, ${what}`, hint)
  const another = 'name a path in a directory of its own with --admin-socket'
  const main = mainPath === null ? undefined : statSync(dirname(mainPath), { throwIfNoEntry: false })
  if (main?.dev === dev && main.ino === ino) throw wrong('is that of the other socket too', another)
  if (uid !== 0 && uid !== process.getuid!())
    throw wrong(`is neither root's nor the daemon's but of uid ${uid}`, another)
  const permissions = mode & permissionBits
  if (permissions !== adminDirectoryMode) {
    const text = permissions.toString(8).padStart(4, '0')
    throw wrong(`has mode ${text}, not 0700`, `chmod 0700 ${directory}, or ${another}`)
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    // Anything but "nobody listens" may be a live daemon that is full or not ours to ask.
    probe.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    )
  })
}

function flagOf(door: Door): string {
  return door === 'admin' ? '--admin-socket' : '--socket'
}

/** The StartError for what went wrong while a socket was made; one that is a StartError already stays. */
export function listenError(
  error: unknown,
  on: { readonly path: string } | ListenOn,
  door: Door,
): StartError {
  if (error instanceof StartError) return error
  const where = 'path' in on ? on.path : `the handed socket ${on.fd}`
  const { code = '', message } = error as NodeJS.ErrnoException
  return new StartError(
    'storeUnusable',
    `cannot listen on ${where}: ${code === 'EACCES' ? 'permission denied' : code === 'EADDRINUSE' ? 'in use' : message}`,
    `name another path with ${flagOf(door)}, in a directory this uid may write`,
    error,
  )
}
