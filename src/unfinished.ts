import { randomBytes, randomUUID } from 'node:crypto'
import { lstatSync, opendirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'

/** The names `unfinishedName` and `unfinishedBackup` give, and what SQLite puts beside the latter. */
const newName = /^(?:purser\.db|master\.key)\.new-[0-9a-f]{16}$/
const backupName = /^\.purser-backup-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?:-journal|-wal|-shm)?$/

/** Names looked at in one directory: a backup may be written where many files lie, and this holds the event loop. */
const entriesMax = 10_000

/** A name beside `path` to make a file under before it is linked to `path`, so that no half of it ever has its name. */
export function unfinishedName(path: string): string {
  return `${path}.new-${randomBytes(8).toString('hex')}`
}

/** As `unfinishedName`, for a backup in `directory`. */
export function unfinishedBackup(directory: string): string {
  return join(directory, `.purser-backup-${randomUUID()}`)
}

/**
 * Removes what a killed run left in `directory` under one of these names: regular files of this uid that were last
 * written `olderThanMs` ago or earlier, nothing else. Best effort: what cannot be removed stays.
 */
export function removeUnfinished(directory: string, kind: 'all' | 'backups', olderThanMs: number): void {
  try {
    const entries = opendirSync(directory)
    try {
      for (let count = 0; count < entriesMax; count++) {
        const entry = entries.readSync()
        if (entry === null) break
        if (backupName.test(entry.name) || (kind === 'all' && newName.test(entry.name)))
          removeOwn(join(directory, entry.name), olderThanMs)
      }
    } finally {
      entries.closeSync()
    }
  } catch {
    // A directory that cannot be listed may still be written to.
  }
}

function removeOwn(path: string, olderThanMs: number): void {
  try {
    const stats = lstatSync(path)
    if (!stats.isFile() || stats.uid !== process.geteuid!()) return
    if (Date.now() - stats.mtimeMs >= olderThanMs) unlinkSync(path)
  } catch {
    // It is gone, or not ours to remove.
  }
}
