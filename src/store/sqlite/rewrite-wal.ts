import { closeSync, constants, fdatasyncSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { StartError } from '../../errors.ts'

const chunkBytes = 1024 * 1024

/**
 * Writes the WAL that a crash left of the store at `path` again, byte for byte where it stands, and syncs it. After a
 * sync that failed Linux takes the pages for written. A start that follows finds them in memory and recovers from them
 * what is not on disk; what is acknowledged then stands behind it, and a power cut would take it all. Nobody else may
 * have the store open. StartError 69 where the WAL cannot be read or written.
 */
export function rewriteWal(path: string): void {
  try {
    const fd = openSync(`${path}-wal`, constants.O_RDWR | constants.O_NOFOLLOW)
    try {
      rewrite(fd)
      fdatasyncSync(fd)
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    const { code = String(error) } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return
    throw new StartError(
      'storeUnusable',
      `cannot sync ${path}-wal: ${code}`,
      'check the disk and the owner, mode and free space of the data directory',
      error,
    )
  }
}

function rewrite(fd: number): void {
  const { size } = fstatSync(fd)
  const chunk = Buffer.allocUnsafe(Math.min(size, chunkBytes))
  for (let at = 0; at < size; ) {
    const read = readSync(fd, chunk, 0, chunk.length, at)
    if (read === 0) break
    for (let written = 0; written < read; )
      written += writeSync(fd, chunk, written, read - written, at + written)
    at += read
  }
}
