import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import Database from 'better-sqlite3'
import { StartError } from '../../errors.ts'
import { removeUnfinished, unfinishedName } from '../../unfinished.ts'
import { isSqliteStorageError } from './engine.ts'
import type { Migration } from './migrate.ts'
import { migrate, migrations as shippedMigrations } from './migrate.ts'

/** "PURS": tells a store from any other SQLite file. */
const applicationId = 0x50555253
/** What schema.sql makes. */
export const currentSchemaVersion = 2
/** How long a start waits for a purserd that is just stopping. */
const lockWaitMs = 1000
/** Page cache; the working set of a host of bots fits. */
const cacheKib = 16_384
/**
 * The WAL is cut back to this after a checkpoint. One is made every 1000 pages (4 MiB), and the largest commit adds less
 * than 20 MiB to that: a WAL above this is one that cannot be checkpointed.
 */
export const walBytesMax = 32 * 1024 * 1024
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

/** As on /tmp: many uids write there. */
const stickyBit = 0o1000

/** Makes the data directory, mode 0700, where it is missing. StartError 69 where it cannot be used. */
export function prepareDataDirectory(directory: string): void {
  try {
    const made = mkdirSync(directory, { recursive: true, mode: 0o700 })
    if (made !== undefined) syncParents(made, directory)
    const { mode } = statSync(directory)
    if ((mode & 0o077) === 0) return
    if ((mode & stickyBit) !== 0 || hasDirectories(directory)) {
      throw new StartError(
        'storeUnusable',
        `the data directory ${directory} is open to others and holds more than a store`,
        'name a directory of its own with --data-dir',
      )
    }
    chmodSync(directory, 0o700)
  } catch (error) {
    if (error instanceof StartError) throw error
    throw new StartError(
      'storeUnusable',
      `cannot use the data directory ${directory}: ${reason(error)}`,
      'name a directory of its own that this uid may write with --data-dir',
      error,
    )
  }
}

/** Puts the names of directories just made, from `first` down to `last`, on disk: else a store in them could be lost. */
function syncParents(first: string, last: string): void {
  for (let path = resolve(last); ; path = dirname(path)) {
    try {
      syncDirectory(dirname(path))
    } catch (error) {
      // One that may be written but not read can hold a directory, and cannot be opened to be synced.
      if ((error as NodeJS.ErrnoException).code !== 'EACCES') throw error
    }
    if (path === resolve(first) || path === dirname(path)) return
  }
}

/** A data directory has none. Who names /etc or a home by mistake must not find it closed to everybody else. */
function hasDirectories(directory: string): boolean {
  return readdirSync(directory, { withFileTypes: true }).some((entry) => entry.isDirectory())
}

/** Puts the first rows into a new store, in the transaction that makes it. */
export type FirstRows = (database: Database.Database) => void

/** Whether DIR/purser.db is there, whatever it is. StartError 69 where that cannot be told, or where only its log is. */
export function storeIsThere(directory: string): boolean {
  const path = storePath(directory)
  try {
    if (isThere(path)) return true
    refuseOrphan(path)
    return false
  } catch (error) {
    throw storeError(error, path)
  }
}

function storePath(directory: string): string {
  return join(directory, 'purser.db')
}

/**
 * Opens DIR/purser.db exclusively with every commit synced, makes it where there is none, brings an older schema here.
 * `firstRows` runs in the transaction that makes a new store; null makes none. StartError 69, with one clear line, for a
 * file that is in use, foreign, damaged, newer, or cannot be written; such a file is left as it was.
 */
export function openStore(
  directory: string,
  firstRows: FirstRows | null,
  migrations: readonly Migration[] = shippedMigrations,
  schemaVersion = currentSchemaVersion,
): OpenedStore {
  const path = storePath(directory)
  let database: Database.Database | null = null
  try {
    const created = firstRows !== null && !isThere(path) && createStore(directory, path, firstRows)
    // Before SQLite sees the file: it would recover and checkpoint whatever lies there. Later it could not be opened
    // again either: POSIX drops a process's locks on a file when it closes any descriptor of it.
    checkHeader(path, schemaVersion)
    database = new Database(path, { timeout: lockWaitMs, fileMustExist: true })
    // Exclusive before WAL: no shared-memory file, and a second purserd is refused instead of interleaving.
    database.pragma('locking_mode = EXCLUSIVE')
    configure(database)
    const migrationCopy = created ? null : bringForward(database, path, migrations, schemaVersion)
    checkPages(database, path)
    // Nobody else is at work here: the store is held. A purserd that just made one too could not have it anyway.
    removeUnfinished(directory, 'all', 0)
    return { database, path, created, migrationCopy }
  } catch (error) {
    database?.close()
    throw storeError(error, path)
  }
}

/**
 * Makes DIR/purser.db and answers true; false, with nothing touched, where anything of that name is there. StartError 69
 * where it cannot be written.
 */
export function makeStore(directory: string, firstRows: FirstRows): boolean {
  const path = storePath(directory)
  try {
    return !isThere(path) && createStore(directory, path, firstRows)
  } catch (error) {
    throw storeError(error, path)
  }
}

/** An empty store in memory, for a daemon that has none yet. */
export function openNoStore(): Database.Database {
  const database = new Database(':memory:')
  database.defaultSafeIntegers(true)
  database.exec(readFileSync(schemaPath, 'utf8'))
  return database
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}

/**
 * Makes a store that is whole from the first moment it has its name: built in memory, on disk under another name, then
 * linked. So an empty or short purser.db is never a start that was cut off, but always a store that lost its contents.
 * False where another purserd was faster.
 */
function createStore(directory: string, path: string, firstRows: FirstRows): boolean {
  refuseOrphan(path)
  const image = buildStore(firstRows)
  const temporary = unfinishedName(path)
  try {
    writeFileSync(temporary, image, { flag: 'wx', mode: 0o600, flush: true })
    linkSync(temporary, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    rmSync(temporary, { force: true })
  }
  syncDirectory(directory)
  return true
}

/** SQLite would replay such a log into a new store; it may hold what the lost one had answered. */
function refuseOrphan(path: string): void {
  const orphan = [`${path}-wal`, `${path}-journal`].find(isThere)
  if (orphan === undefined) return
  throw new StartError(
    'storeUnusable',
    `${path} is missing, but ${orphan} is there`,
    'put back the store it belongs to, or move it away to begin with an empty one',
  )
}

function buildStore(firstRows: FirstRows): Buffer {
  const database = new Database(':memory:')
  try {
    database.defaultSafeIntegers(true)
    database.exec('BEGIN')
    database.exec(readFileSync(schemaPath, 'utf8'))
    firstRows(database)
    database.exec('COMMIT')
    return database.serialize()
  } finally {
    database.close()
  }
}

/** The fields of a database's header (sqlite.org/fileformat.html, section 1.3) that tell whose it is. */
const header = { bytes: 100, magic: 'SQLite format 3\0', userVersionAt: 60, applicationIdAt: 68 } as const

/** Refuses a file that is no store, or one this purser cannot know, by its first bytes; then closes it to others. */
function checkHeader(path: string, schemaVersion: number): void {
  // Opened for writing to know now whether it can be; without O_NONBLOCK a FIFO would hang the start.
  const fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const stat = fstatSync(fd)
    const bytes = Buffer.alloc(header.bytes)
    const length = stat.isFile() ? readSync(fd, bytes, 0, header.bytes, 0) : 0
    if (stat.isFile() && length === 0) throw damaged(path)
    if (length < header.bytes || bytes.toString('latin1', 0, header.magic.length) !== header.magic) {
      throw new StartError(
        'storeUnusable',
        `${path} is not a purser store (no SQLite database, or damaged)`,
        'name another --data-dir or restore a backup; the file was not changed',
      )
    }
    if (bytes.readUInt32BE(header.applicationIdAt) !== applicationId) {
      throw new StartError(
        'storeUnusable',
        `${path} is a database of another program`,
        'name another directory with --data-dir; the file was not changed',
      )
    }
    refuseNewer(path, bytes.readUInt32BE(header.userVersionAt), schemaVersion)
    if ((stat.mode & 0o077) !== 0) fchmodSync(fd, 0o600)
  } finally {
    closeSync(fd)
  }
}

function refuseNewer(path: string, found: number, known: number): void {
  if (found <= known) return
  throw new StartError(
    'storeUnusable',
    `${path} has schema version ${found}; this purser knows up to ${known}`,
    'install the newer purser that made it, or restore a backup from before',
  )
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

function bringForward(
  database: Database.Database,
  path: string,
  migrations: readonly Migration[],
  schemaVersion: number,
): string | null {
  const found = Number(database.pragma('user_version', { simple: true }))
  if (found === schemaVersion) return null
  // Once more: the header on disk is older than what may wait in the WAL.
  refuseNewer(path, found, schemaVersion)
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

/** What `error` means for the start: StartError 69 for whatever is wrong with the store at `path`, else 70. */
export function storeError(error: unknown, path: string): StartError {
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
  if (code === 'EISDIR') return 'it is a directory'
  if (code === 'ENOSPC') return 'no space left'
  if (code === 'ELOOP') return 'it is a symbolic link'
  return message ?? String(error)
}
