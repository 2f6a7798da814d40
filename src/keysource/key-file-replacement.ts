import { accessSync, constants, lstatSync, readFileSync, realpathSync, type Stats } from 'node:fs'
import { link, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { readKeyFile } from './key-file.ts'
import { syncDirectory, writeNewFile } from './new-file.ts'
import { encodeMasterKey, type MasterKeyBytes } from './parse-key.ts'

/** Where the key of `epoch` stays when another takes its place: backups from before open with it. */
function keptKeyFile(path: string, epoch: number): string {
  return `${path}.epoch-${epoch}`
}

/** Where a new key lies until it takes its place. */
function newKeyFile(path: string): string {
  return `${path}.new`
}

/**
 * Why the key file at `path`, which holds the key of `epoch`, cannot be replaced by a new one; null where it can be. A
 * rename puts something else in the place of a link, and of a mount nothing at all: both belong to somebody else.
 */
export function replacementProblem(path: string, epoch: number): string | null {
  try {
    return problemOf(path, epoch)
  } catch (error) {
    return `${path} cannot be looked at (${(error as NodeJS.ErrnoException).code})`
  }
}

function problemOf(path: string, epoch: number): string | null {
  const stat = look(path)
  if (stat === undefined) return `${path} is not there`
  if (stat.isSymbolicLink()) return `${path} is a symbolic link`
  if (!stat.isFile()) return `${path} is not a regular file`
  if (stat.uid !== process.geteuid?.()) return `${path} belongs to another user than the daemon's`
  if (isMountPoint(path)) return `${path} is a mount point`
  try {
    accessSync(dirname(path), constants.W_OK | constants.X_OK)
  } catch {
    return `the directory of ${path} cannot be written`
  }
  const kept = look(keptKeyFile(path, epoch))
  if (kept !== undefined && !isSameFile(kept, stat))
    return `${keptKeyFile(path, epoch)} is there already: move it away`
  return null
}

/** Puts a new key beside the file at `path`, on disk. One that a kill left there is removed. Throws the system's error. */
export async function putNewKey(path: string, key: MasterKeyBytes): Promise<void> {
  const text = encodeMasterKey(key)
  try {
    await remove(newKeyFile(path))
    await writeNewFile(newKeyFile(path), text)
  } finally {
    text.fill(0)
  }
}

/**
 * Puts `key` in the place of the one at `path`, the key of `epoch`, which stays beside it. At every step the file at
 * `path` is whole, the old or the new. May be called again after a kill at any point. Throws the system's error.
 */
export async function replaceKeyFile(path: string, epoch: number, key: MasterKeyBytes): Promise<void> {
  // A kill before the rename may have left it, or another key, or nothing.
  if (!(await holdsKey(newKeyFile(path), key))) await putNewKey(path, key)
  const kept = keptKeyFile(path, epoch)
  const before = look(kept)
  if (before === undefined || !isSameFile(before, lstatSync(path))) await link(path, kept)
  await rename(newKeyFile(path), path)
}

/** Keeps on disk what replaceKeyFile did. Throws the system's error. */
export async function syncKeyFile(path: string): Promise<void> {
  await syncDirectory(dirname(path))
}

/** Removes what a replacement that did not come about has left beside the file at `path`. */
export async function abandonReplacement(path: string, epoch: number): Promise<void> {
  await remove(newKeyFile(path))
  const [present, kept] = [look(path), look(keptKeyFile(path, epoch))]
  // Another file of that name is somebody's only copy of an old key.
  if (present !== undefined && kept !== undefined && isSameFile(present, kept))
    await remove(keptKeyFile(path, epoch))
}

async function holdsKey(path: string, key: MasterKeyBytes): Promise<boolean> {
  const found = await readKeyFile(path, 'owner-and-mode').catch(() => null)
  if (found === null) return false
  const same = found.equals(key)
  found.fill(0)
  return same
}

function look(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false })
}

function isSameFile(one: Stats, other: Stats): boolean {
  return one.ino === other.ino && one.dev === other.dev
}

/** By the kernel's list: a bind mount of a file from the same file system has no device number of its own. */
function isMountPoint(path: string): boolean {
  const real = join(realpathSync(dirname(path)), basename(path))
  let mounts: string
  try {
    mounts = readFileSync('/proc/self/mountinfo', 'utf8')
  } catch {
    // Without /proc the rename tells.
    return false
  }
  return mounts.split('\n').some((line) => unescapeMount(line.split(' ')[4] ?? '') === real)
}

/** The kernel writes space, tab, line feed and backslash as three octal digits. */
function unescapeMount(field: string): string {
  const bytes = Buffer.from(field, 'utf8').toString('latin1')
  const plain = bytes.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
  return Buffer.from(plain, 'latin1').toString('utf8')
}

async function remove(path: string): Promise<void> {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}
