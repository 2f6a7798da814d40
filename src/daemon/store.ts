import type Database from 'better-sqlite3'
import type { ClientDirectory } from '../access/directory.ts'
import type { Config } from '../config.ts'
import { PurserError, StartError } from '../errors.ts'
import type { ConfiguredSource } from '../keysource/configured-source.ts'
import { dayMs, dayOf } from '../ledger/clock.ts'
import type { Logger } from '../log.ts'
import { entryOf } from '../service/clients.ts'
import { WrongKeyError } from '../service/unsealing.ts'
import type { FirstRows, OpenedStore } from '../store/sqlite/open.ts'
import { openStore, storeError, storeIsThere } from '../store/sqlite/open.ts'
import { rewriteWal } from '../store/sqlite/rewrite-wal.ts'
import { statementsOf } from '../store/sqlite/statements.ts'
import type { Keyring } from '../vault/keyring.ts'
import { createKeyMaterial, openKeyring } from '../vault/keyring.ts'

/** What a start finds or makes. Without a store there is no keyring either. */
export type Opened = {
  readonly store: OpenedStore | null
  /** Null where purser starts sealed. */
  readonly keyring: Keyring | null
  /** The source failed, and is to be read again until it gives the key. */
  readonly waitsForSource: boolean
}

/** What a new store under `masterKey` begins with. */
export function firstRows(masterKey: Buffer): FirstRows {
  return (database) => {
    const { storeId, rows } = createKeyMaterial(masterKey)
    const statements = statementsOf(database)
    statements.storeInsert(storeId, Date.now())
    statements.masterKeyInsert(rows[0], Date.now())
    statements.ledgerInsert(dayOf(Date.now()))
  }
}

/**
 * Opens the store, or makes it, with the key from `source`; without the key where purser is to start sealed: by
 * `--sealed`, by a stored seal, or as the source failed and `key.on_failure` is "seal". The store is looked at first,
 * for what a seal has taken away must not be read again. StartError.
 */
export async function openWithKey(config: Config, source: ConfiguredSource, log: Logger): Promise<Opened> {
  let store = storeIsThere(config.dataDir) ? openExisting(config, log) : null
  try {
    if (config.sealed || (store !== null && isSealed(store))) {
      source.forget()
      return { store, keyring: null, waitsForSource: false }
    }
    const masterKey = await readKey(config, source, log)
    if (masterKey === null) return { store, keyring: null, waitsForSource: true }
    try {
      store ??= openStore(config.dataDir, firstRows(masterKey))
      return { store, keyring: unlock(store, masterKey, source), waitsForSource: false }
    } finally {
      masterKey.fill(0)
    }
  } catch (error) {
    store?.database.close()
    throw error
  }
}

function openExisting(config: Config, log: Logger): OpenedStore {
  const store = openStore(config.dataDir, null)
  try {
    if (store.migrationCopy !== null)
      log.info({ copy: store.migrationCopy }, 'the store was brought to a newer schema')
    rewriteWal(store.path)
    return store
  } catch (error) {
    store.database.close()
    throw error
  }
}

/** The key, which the caller wipes; null where the source failed and that is no reason not to start. */
async function readKey(config: Config, source: ConfiguredSource, log: Logger): Promise<Buffer | null> {
  try {
    const masterKey = await source.read()
    if (source.warning !== null) log.warn(source.warning)
    return masterKey
  } catch (error) {
    const failed = error instanceof StartError && error.exitCode === 77
    if (!failed || config.key.onFailure === 'exit') throw error
    log.error({ reason: error.message, hint: error.hint }, 'sealed: the key source failed; it is tried again')
    return null
  }
}

function isSealed({ database, path }: OpenedStore): boolean {
  return withStatements(database, path, (statements) => {
    const sealedAtMs = statements.storeGet()?.sealedAtMs ?? null
    return sealedAtMs !== null
  })
}

function unlock({ database, path }: OpenedStore, masterKey: Buffer, source: ConfiguredSource): Keyring {
  const { store, rows } = withStatements(database, path, (statements) => ({
    store: statements.storeGet(),
    rows: statements.masterKeys(),
  }))
  if (store === undefined || rows.length === 0) {
    throw new StartError('storeUnusable', 'the store is damaged: it has no key material', 'restore a backup')
  }
  try {
    return openKeyring(masterKey, { storeId: store.storeId, rows })
  } catch (error) {
    if (error instanceof PurserError) throw new WrongKeyError(source.describe, rows)
    throw new StartError(
      'storeUnusable',
      'the key material of the store is damaged',
      'restore a backup',
      error,
    )
  }
}

/** A table or column that is missing shows when the statements are prepared. */
function withStatements<T>(
  database: Database.Database,
  path: string,
  read: (statements: ReturnType<typeof statementsOf>) => T,
): T {
  try {
    return read(statementsOf(database))
  } catch (error) {
    throw storeError(error, path)
  }
}

/**
 * The latest wall-clock time the store holds. The ledger's day is one too: a start in doubt is an entry of the audit log
 * itself, and the next start must not take that one's time for right.
 */
export function lastStoredMs({ database }: OpenedStore): number | null {
  const statements = statementsOf(database)
  const head = statements.auditHead()
  const atMs = head === undefined ? undefined : statements.auditRange(head.seq, 1)[0]?.atMs
  return atMs === undefined ? null : Math.max(atMs, statements.ledgerGet().day * dayMs)
}

/** Reads every client entry. StartError for one that is damaged. */
export function loadClients({ database }: OpenedStore, directory: ClientDirectory): void {
  try {
    for (const row of statementsOf(database).clientsPage(0, Number.MAX_SAFE_INTEGER))
      directory.put(entryOf(row))
  } catch (error) {
    throw new StartError('storeUnusable', 'a client entry of the store is damaged', 'restore a backup', error)
  }
}
