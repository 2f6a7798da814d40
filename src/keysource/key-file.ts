import { constants, lstatSync, type Stats } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { StartError } from '../errors.ts'
import { offHeap } from '../secret.ts'
import { type MasterKeyBytes, parseMasterKey } from './parse-key.ts'

/** A key is at most 64 digits; the rest is room for white space. What is larger is another file. */
const fileBytesMax = 4_096

/** How a key file is looked at before it is read. */
export type KeyFileCheck = 'owner-and-mode' | 'none'

/**
 * Whether something is at `path`. A dangling link counts, so that nothing is put in the place of a key that a mount
 * failed to bring. Throws StartError (`exit`) where the directory does not let the daemon look.
 */
export function isThere(path: string, exit: 'masterKey' | 'storeUnusable'): boolean {
  try {
    lstatSync(path)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return false
    throw new StartError(
      exit,
      `${path} cannot be looked at (${code})`,
      'let the daemon user into its directory',
      error,
    )
  }
}

/** The 78 of a key that was read but is none. `where` names its place, never its contents. */
export function malformedKey(where: string): StartError {
  return new StartError(
    'config',
    `${where} holds no master key`,
    'it must be 32 bytes as base64, base64url or hex, and nothing else: `openssl rand -base64 32` makes one',
  )
}

/**
 * Reads the master key from `path`. Throws StartError: 77 where the file is missing, unreadable or open to others,
 * 78 where it holds no key. A symbolic link is followed (mounted secrets are links), and owner and mode are those of
 * the file that was opened, so nothing can be exchanged between the look and the read. `check` is `none` for systemd
 * credentials alone.
 */
export async function readKeyFile(path: string, check: KeyFileCheck): Promise<MasterKeyBytes> {
  const file = await openKeyFile(path)
  const text = offHeap(fileBytesMax + 1)
  try {
    const problem = refusalOf(await file.stat(), check)
    if (problem !== null) throw failing(path, problem.text, problem.hint)
    const length = await readAll(file, text, path)
    const key = length > fileBytesMax ? null : parseMasterKey(text.subarray(0, length))
    if (key === null) throw malformedKey(path)
    return key
  } finally {
    text.fill(0)
    await file.close()
  }
}

async function openKeyFile(path: string): Promise<FileHandle> {
  try {
    // Without O_NONBLOCK a FIFO would hang the start; with O_NOCTTY a terminal stays what it was.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw failing(path, 'does not exist', 'put the key there or name its file', error)
    throw failing(path, `cannot be opened (${code})`, 'let the daemon user read it', error)
  }
}

async function readAll(file: FileHandle, text: Buffer, path: string): Promise<number> {
  let length = 0
  try {
    while (length < text.length) {
      const { bytesRead } = await file.read(text, length, text.length - length, null)
      if (bytesRead === 0) break
      length += bytesRead
    }
    return length
  } catch (error) {
    throw failing(path, `cannot be read (${(error as NodeJS.ErrnoException).code})`, 'repair the file', error)
  }
}

function refusalOf(stat: Stats, check: KeyFileCheck): { text: string; hint: string } | null {
  if (!stat.isFile()) return { text: 'is not a regular file', hint: 'put the key into a file of its own' }
  if (check === 'none') return null
  if (stat.uid !== 0 && stat.uid !== process.geteuid?.()) {
    return { text: `belongs to uid ${stat.uid}`, hint: 'chown it to root or to the daemon user' }
  }
  // Group may read (root:purser 0640 is a usual way), but who may write chooses the key.
  if ((stat.mode & 0o027) !== 0) {
    const mode = (stat.mode & 0o777).toString(8).padStart(4, '0')
    return {
      text: `is open to others (mode ${mode})`,
      hint: 'chmod it to 0600, or 0640 for a group of its own',
    }
  }
  return null
}

function failing(path: string, problem: string, hint: string, cause?: unknown): StartError {
  return new StartError('masterKey', `the key file ${path} ${problem}`, hint, cause)
}
