import { setImmediate as nextTurn } from 'node:timers/promises'
import type Database from 'better-sqlite3'

/** Turns of the event loop in which a transaction or a backup may be in the way. */
const triesMax = 10_000

/**
 * Moves the write-ahead log into the database file and cuts it to nothing, so that pages as they were before are in
 * neither. Waits while a transaction is open. Rejects where something is in the way for good.
 */
export async function truncateWal(database: Database.Database): Promise<void> {
  for (let tries = 0; tries < triesMax; tries++) {
    if (!database.inTransaction) {
      const [result] = database.pragma('wal_checkpoint(TRUNCATE)') as { busy: bigint }[]
      if (Number(result?.busy) === 0) return
    }
    await nextTurn()
  }
  throw new Error('the log of the store cannot be emptied')
}
