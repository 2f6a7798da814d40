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
  `)
  old.close()

  const { database, migrationCopy } = openStore(scratch.path, firstRows)
  expect(migrationCopy).toContain(`purser.db.v${version}-`)
  expect(database.prepare('SELECT user_id, user_count FROM users, store').all()).toEqual([
    { user_id: 'alice', user_count: 1n },
  ])
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
