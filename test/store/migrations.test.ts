import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { currentSchemaVersion, openStore } from '../../src/store/sqlite/open.ts'
import { firstRows, openIn, Scratch } from './support.ts'

/** Schemas that were shipped, each as it was; a store of each must become what the present schema.sql makes. */
const shipped = Array.from({ length: currentSchemaVersion - 1 }, (_, index) => index + 1)

test.each(shipped)('a store of version %d becomes what a new one is, with everything in it', (version) => {
  using scratch = new Scratch()
  const old = new Database(join(scratch.path, 'purser.db'))
  old.exec(readFileSync(new URL(`schemas/version-${version}.sql`, import.meta.url), 'utf8'))
  old.pragma('journal_mode = WAL')
  old.exec(`
    INSERT INTO store (id, store_id, created_at_ms) VALUES (1, zeroblob(16), 1);
    INSERT INTO master_keys (epoch, key_id, check_value, wrapped_store_key, created_at_ms) VALUES (1, 'k', x'01', x'02', 1);
    INSERT INTO ledger (id, day) VALUES (1, 20000);
    INSERT INTO users (user_id, tier, settlement, created_at_ms, updated_at_ms) VALUES ('alice', 'free', 'operator', 1, 1);
    INSERT INTO reservations (reservation_id, user_id, amount_micros, held_micros, state, created_at_ms) VALUES (7, 'alice', 5, 5, 'held', 1);
    INSERT INTO positions (position_id, user_id, reservation_id, amount_micros, open_micros, opened_at_ms) VALUES (3, 'alice', 7, 2, 2, 1);
    INSERT INTO audit (seq, at_ms, action, outcome, details, hash) VALUES (1, 1, 'user_put', 'ok', '{}', zeroblob(32));
  `)
  old.close()

  const { database, migrationCopy } = openStore(scratch.path, firstRows)
  expect(migrationCopy).toContain(`purser.db.v${version}-`)
  expect(database.prepare('SELECT user_id, user_count FROM users, store').all()).toEqual([
    { user_id: 'alice', user_count: 1n },
  ])
  expect(database.prepare('SELECT reservation_id AS id, state FROM reservations').all()).toEqual([
    { id: 7n, state: 'held' },
  ])
  expect(database.prepare('SELECT reservation_id AS id, open_micros AS open FROM positions').all()).toEqual([
    { id: 7n, open: 2n },
  ])
  expect(database.prepare('SELECT seq, outcome FROM audit').all()).toEqual([{ seq: 1n, outcome: 'ok' }])
  expect(database.pragma('foreign_keys', { simple: true })).toBe(1n)
  expect(() => database.exec("UPDATE audit SET outcome = 'maybe'")).toThrow('CHECK')
  expect(() => database.exec('DELETE FROM reservations')).toThrow('FOREIGN KEY')
  using fresh = new Scratch()
  const made = openIn(fresh.path)
  expect(shapeOf(database)).toEqual(shapeOf(made))
  made.close()
  database.close()
})

/** Every table with its columns as SQLite has parsed them, and the text of every index, trigger and table check. */
function shapeOf(database: Database.Database): unknown {
  const objects = database
    .prepare("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name")
    .all() as { type: string; name: string; sql: string }[]
  return objects.map(({ type, name, sql }) => ({
    type,
    name,
    ...(type === 'table'
      ? {
          columns: database.pragma(`table_xinfo(${name})`),
          checks: sql.match(/CHECK \((?:[^()]|\([^()]*\))*\)/g)?.sort(),
        }
      : { sql: sql.replace(/\s+/g, ' ') }),
  }))
}
