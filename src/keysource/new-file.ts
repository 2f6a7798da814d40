import { open, unlink } from 'node:fs/promises'

/**
 * Makes a file (0600) that must not exist, and puts `bytes` on disk before it returns; what was written of it is
 * removed where that fails. Sync its directory to keep its name as well. Throws the error of the system (EEXIST).
 */
export async function writeNewFile(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    let written = 0
    while (written < bytes.length) {
      const { bytesWritten } = await file.write(bytes, written)
      written += bytesWritten
    }
    await file.sync()
  } catch (error) {
    await unlink(path).catch(() => undefined)
    throw error
  } finally {
    await file.close()
  }
}

/** Puts the names in a directory on disk. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
