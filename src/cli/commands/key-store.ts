import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { currentSchemaVersion } from '../../store/sqlite/open.ts'
import { statementsOf } from '../../store/sqlite/statements.ts'
import type { KeyMaterial } from '../../vault/keyring.ts'
import { CliError } from '../cli-error.ts'
import { systemReason } from '../input/bounded.ts'

/** Where SQLite puts its locks (PENDING_BYTE): beyond them nobody else locks a byte of the file. */
const sqliteLockOffset = 0x40000000

/**
 * The process that has the store at `path` open exclusively, as a running purserd does, or null. From /proc/locks, so
 * that no lock is taken, which a starting daemon could meet. Null too where that process is in another pid namespace.
 */
export function lockHolder(path: string): number | null {
  let locks: string
  try {
    locks = readFileSync('/proc/locks', 'utf8')
  } catch {
    return null
  }
  const { ino } = statSync(path)
  for (const line of locks.split('\n')) {
    const match = /POSIX +ADVISORY +WRITE +(\d+) +[0-9a-f]+:[0-9a-f]+:(\d+) +(\d+) /.exec(line)
    if (match === null || Number(match[2]) !== ino || Number(match[3]) < sqliteLockOffset) continue
    return Number(match[1])
  }
  return null
}

/** The tables with the key material are the first that are made: their pages are within this. */
const prefixBytes = 16 * 1024 * 1024

/**
 * What the store at `path` holds of its master keys, oldest first; null for an empty file. The store is never written:
 * even to read, SQLite would make files beside it or move its log into it, so file and log are copied to a temporary
 * directory and opened there. Of a large file the first 16 MiB are copied, and all of it where they do not do. Call it
 * only where no daemon has the store open. Throws CliError.
 */
export function readKeyMaterial(path: string): KeyMaterial | null {
  const directory = mkdtempSync(join(tmpdir(), 'purser-check-'))
  try {
    const size = copyPrefix(path, join(directory, 'purser.db'), prefixBytes)
    if (size === 0) return null
    const log = `${path}-wal`
    if (existsSync(log)) copyFileSync(log, join(directory, 'purser.db-wal'))
    const found = queryCopy(directory)
    if (found !== 'corrupt') return found
    if (size > prefixBytes) {
      copyPrefix(path, join(directory, 'purser.db'), size)
      if (existsSync(log)) copyFileSync(log, join(directory, 'purser.db-wal'))
      const whole = queryCopy(directory)
      if (whole !== 'corrupt') return whole
    }
    throw new CliError('checkFailed', `${path} is damaged, or no purser store`, 'restore a backup')
  } catch (error) {
    if (error instanceof CliError) throw error
    throw new CliError('checkFailed', `cannot read ${path}: ${systemReason(error)}`, null, error)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const chunkBytes = 1024 * 1024

/** Copies the first `bytes` of a file; the rest is a hole of the same length. Answers the size. */
function copyPrefix(from: string, to: string, bytes: number): number {
  const source = openSync(from, constants.O_RDONLY | constants.O_NOFOLLOW)
  const target = openSync(to, 'w', 0o600)
  try {
    const { size } = fstatSync(source)
    const chunk = Buffer.alloc(chunkBytes)
    for (let at = 0; at < Math.min(size, bytes); ) {
      const length = readSync(source, chunk, 0, Math.min(chunk.length, bytes - at), at)
      if (length === 0) break
      writeSync(target, chunk, 0, length, at)
      at += length
    }
    ftruncateSync(target, size)
    return size
  } finally {
    closeSync(source)
    closeSync(target)
  }
}

function queryCopy(directory: string): KeyMaterial | 'corrupt' {
  let database: Database.Database | null = null
  try {
    database = new Database(join(directory, 'purser.db'))
    const version = Number(database.pragma('user_version', { simple: true }))
    if (version !== currentSchemaVersion && version > 0) {
      throw new CliError(
        'checkFailed',
        `the store has schema version ${version}; this purser reads ${currentSchemaVersion}`,
        'start purserd of this version, which brings an older store forward, and ask it',
      )
    }
    const statements = statementsOf(database)
    const store = statements.storeGet()
    return store === undefined ? 'corrupt' : { storeId: store.storeId, rows: statements.masterKeys() }
  } catch (error) {
    if (error instanceof Database.SqliteError) return 'corrupt'
    throw error
  } finally {
    database?.close()
  }
}
