import {
  chmodSync,
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { StartError } from '../../errors.ts'
import { isSqliteStorageError } from './engine.ts'
import type { Migration } from './migrate.ts'
import { migrate, migrations as shippedMigrations } from './migrate.ts'

/** "PURS": tells a store from any other SQLite file. */
const applicationId = 0x50555253
/** What schema.sql makes. */
export const currentSchemaVersion = 1
/** How long a start waits for a purserd that is just stopping. */
const lockWaitMs = 1000
/** Page cache; the working set of a host of bots fits. */
const cacheKib = 16_384
/** The WAL is cut back to this after a checkpoint. */
const walBytesMax = 64 * 1024 * 1024
/** Stores up to this many pages (16 MiB) are checked whole at every start, about 20 ms; larger ones are not. */
const checkedPagesMax = 4096

export type OpenedStore = {
  readonly database: Database.Database
  readonly path: string
  /** Whether this start made the store. */
  readonly created: boolean
  /** Where a migration put the copy it keeps, else null. */
  readonly migrationCopy: string | null
}

const schemaPath = new URL('../../../schema.sql', import.meta.url)

/** Makes the data directory (0700) where it is missing. StartError 69 where it cannot be used. */
export function prepareDataDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    if ((statSync(directory).mode & 0o077) !== 0) chmodSync(directory, 0o700)
  } catch (error) {
    throw new StartError(
      'storeUnusable',
      `cannot use the data directory ${directory}: ${reason(error)}`,
      'name a directory this uid may write with --data-dir',
      error,
    )
  }
}

/** Whether DIR holds a store file, of any size. */
export function storeExists(directory: string): boolean {
  try {
    statSync(join(directory, 'purser.db'))
    return true
  } catch {
    return false
  }
}

/**
 * Opens DIR/purser.db exclusively with every commit synced, makes it where there is none, brings an older schema here.
 * `firstRows` runs in the transaction that makes a new store. StartError 69, with one clear line, for a file that is
 * in use, foreign, damaged, newer, or cannot be written.
 */
export function openStore(
  directory: string,
  firstRows: (database: Database.Database) => void,
  migrations: readonly Migration[] = shippedMigrations,
  schemaVersion = currentSchemaVersion,
): OpenedStore {
  const path = join(directory, 'purser.db')
  let database: Database.Database | null = null
  try {
    // Made by us and not by SQLite, so that it is 0600 whatever the umask; WAL and copies inherit the mode.
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600))
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600)
    database = new Database(path, { timeout: lockWaitMs })
    // Exclusive before WAL: no shared-memory file, and a second purserd is refused instead of interleaving.
    database.pragma('locking_mode = EXCLUSIVE')
    // Before anything that writes, so that a foreign file stays as it was.
    const created = checkIdentity(database, path)
    configure(database)
    if (created) {
      create(database, firstRows)
      syncDirectory(directory)
    }
    const migrationCopy = created ? null : bringForward(database, path, migrations, schemaVersion)
    checkPages(database, path)
    return { database, path, created, migrationCopy }
  } catch (error) {
    database?.close()
    throw asStartError(error, path)
  }
}

function configure(database: Database.Database): void {
  database.defaultSafeIntegers(true)
  database.pragma('journal_mode = WAL')
  database.pragma('foreign_keys = ON')
  database.pragma('trusted_schema = OFF')
  database.pragma('cell_size_check = ON')
  database.pragma('secure_delete = ON')
  database.pragma('temp_store = MEMORY')
  database.pragma(`cache_size = -${cacheKib}`)
  database.pragma(`journal_size_limit = ${walBytesMax}`)
  // SQLite falls back to NORMAL whenever a WAL database is opened again: then an answered request could be lost.
  database.pragma('synchronous = FULL')
  if (Number(database.pragma('synchronous', { simple: true })) !== 2)
    throw new Error('synchronous is not FULL')
  if (database.pragma('journal_mode', { simple: true }) !== 'wal') throw new Error('journal mode is not WAL')
}

/** Whether the file is empty and to be made; throws where it is somebody else's. */
function checkIdentity(database: Database.Database, path: string): boolean {
  const id = Number(database.pragma('application_id', { simple: true }))
  if (id === applicationId) return false
  const tables = Number(database.prepare('SELECT count(*) FROM sqlite_schema').pluck().get())
  if (id === 0 && tables === 0) return true
  throw new StartError(
    'storeUnusable',
    `${path} is a database of another program`,
    'name another directory with --data-dir; the file was not changed',
  )
}

function create(database: Database.Database, firstRows: (database: Database.Database) => void): void {
  const schema = readFileSync(schemaPath, 'utf8')
  database.exec('BEGIN IMMEDIATE')
  database.exec(schema)
  firstRows(database)
  database.exec('COMMIT')
}

function bringForward(
  database: Database.Database,
  path: string,
  migrations: readonly Migration[],
  schemaVersion: number,
): string | null {
  const found = Number(database.pragma('user_version', { simple: true }))
  if (found === schemaVersion) return null
  if (found > schemaVersion) {
    throw new StartError(
      'storeUnusable',
      `${path} has schema version ${found}; this purser knows up to ${schemaVersion}`,
      'install the newer purser that made it, or restore a backup from before',
    )
  }
  return migrate(database, path, found, schemaVersion, migrations)
}

function checkPages(database: Database.Database, path: string): void {
  if (Number(database.pragma('page_count', { simple: true })) > checkedPagesMax) return
  const verdict = database.pragma('quick_check(1)', { simple: true })
  if (verdict !== 'ok') throw damaged(path)
}

function damaged(path: string, cause?: unknown): StartError {
  return new StartError(
    'storeUnusable',
    `${path} is damaged`,
    'restore a backup; the file was not changed',
    cause,
  )
}

function asStartError(error: unknown, path: string): StartError {
  if (error instanceof StartError) return error
  const code =
    error instanceof Database.SqliteError ? error.code : ((error as NodeJS.ErrnoException).code ?? '')
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) {
    return new StartError(
      'storeUnusable',
      `${path} is in use by another purserd`,
      'stop it, or name another --data-dir',
      error,
    )
  }
  if (code.startsWith('SQLITE_NOTADB')) {
    return new StartError(
      'storeUnusable',
      `${path} is not a purser store (no SQLite database, or damaged)`,
      'name another --data-dir or restore a backup; the file was not changed',
      error,
    )
  }
  if (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_ERROR') return damaged(path, error)
  if (isSqliteStorageError(error) || code !== '') {
    return new StartError(
      'storeUnusable',
      `cannot open ${path}: ${reason(error)}`,
      'check the owner, mode and free space of the data directory',
      error,
    )
  }
  return new StartError(
    'unforeseen',
    `cannot open ${path}: ${reason(error)}`,
    'report this with the log',
    error,
  )
}

function syncDirectory(directory: string): void {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function reason(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string }
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied'
  if (code === 'EROFS') return 'read-only file system'
  if (code === 'ENOTDIR' || code === 'EEXIST') return 'not a directory'
  if (code === 'ENOSPC') return 'no space left'
  if (code === 'ELOOP') return 'it is a symbolic link'
  return message ?? String(error)
}
