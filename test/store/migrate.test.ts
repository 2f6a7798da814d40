import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import type { Migration } from '../../src/store/sqlite/migrate.ts'
import { currentSchemaVersion, openStore } from '../../src/store/sqlite/open.ts'
import { firstRows, openIn, Scratch } from './support.ts'

const from = currentSchemaVersion
const addColumn: Migration = { from, sql: 'ALTER TABLE users ADD COLUMN nickname TEXT' }
const addTable: Migration = {
  from: from + 1,
  sql: "CREATE TABLE notes (note TEXT) STRICT; INSERT INTO notes SELECT tier FROM users; UPDATE users SET nickname = 'n'",
}
const failing: Migration = {
  from: from + 1,
  sql: 'UPDATE users SET tier = 1; UPDATE no_such_table SET x = 1',
}

/** A store of the present version with one user in it. */
function prepare(scratch: Scratch): void {
  const database = openIn(scratch.path)
  database.exec(`INSERT INTO users (user_id, tier, settlement, created_at_ms, updated_at_ms)
    VALUES ('alice', 'free', 'operator', 1, 1)`)
  database.close()
}

const open = (scratch: Scratch, steps: readonly Migration[], version: number) =>
  openStore(scratch.path, firstRows, steps, version)
const copies = (scratch: Scratch) =>
  readdirSync(scratch.path).filter((name) => name.startsWith('purser.db.v'))
const versionOf = (database: Database.Database) => Number(database.pragma('user_version', { simple: true }))

describe('bringing a store to a newer schema', () => {
  test('runs the steps there are, in order, and keeps a whole copy of what was before', () => {
    using scratch = new Scratch()
    prepare(scratch)
    // Given in any order.
    const { database, migrationCopy, created } = open(scratch, [addTable, addColumn], from + 2)
    expect(created).toBe(false)
    expect(versionOf(database)).toBe(from + 2)
    expect(database.prepare('SELECT user_id, tier, nickname FROM users').all()).toEqual([
      { user_id: 'alice', tier: 'free', nickname: 'n' },
    ])
    expect(database.prepare('SELECT note FROM notes').pluck().all()).toEqual(['free'])
    database.close()

    expect(copies(scratch)).toHaveLength(1)
    expect(migrationCopy).toBe(join(scratch.path, copies(scratch)[0]!))
    expect(statSync(migrationCopy!).mode & 0o777).toBe(0o600)
    const copy = new Database(migrationCopy!, { readonly: true })
    expect(versionOf(copy)).toBe(from)
    expect(Number(copy.pragma('application_id', { simple: true }))).toBe(0x50555253)
    expect(copy.prepare('SELECT * FROM users').all()).toMatchObject([{ user_id: 'alice', tier: 'free' }])
    expect(copy.pragma('integrity_check', { simple: true })).toBe('ok')
    copy.close()
  })

  test('is done once', () => {
    using scratch = new Scratch()
    prepare(scratch)
    open(scratch, [addColumn], from + 1).database.close()
    const again = open(scratch, [addColumn], from + 1)
    expect(again.migrationCopy).toBeNull()
    again.database.close()
    expect(copies(scratch)).toHaveLength(1)
  })

  test('a step that fails changes nothing, and the old purser still opens it', () => {
    using scratch = new Scratch()
    prepare(scratch)
    expect(() => open(scratch, [addColumn, failing], from + 2)).toThrow(
      expect.objectContaining({ exitCode: 69 }),
    )
    const database = openIn(scratch.path)
    expect(versionOf(database)).toBe(from)
    const users = database.prepare('SELECT * FROM users').all() as object[]
    expect(users).toMatchObject([{ user_id: 'alice', tier: 'free' }])
    expect(users[0]).not.toHaveProperty('nickname')
    database.close()
    // The copy made before is still there for whoever wants to look.
    expect(copies(scratch)).toHaveLength(1)
  })

  test('a step that is missing is told of before anything is done', () => {
    using scratch = new Scratch()
    prepare(scratch)
    expect(() => open(scratch, [addTable], from + 2)).toThrow(expect.objectContaining({ exitCode: 69 }))
    expect(copies(scratch)).toEqual([])
    const database = openIn(scratch.path)
    expect(versionOf(database)).toBe(from)
    database.close()
  })

  test('a newer store is refused by an older purser, and left alone', () => {
    using scratch = new Scratch()
    prepare(scratch)
    open(scratch, [addColumn], from + 1).database.close()
    const before = statSync(join(scratch.path, 'purser.db'))
    expect(() => openIn(scratch.path)).toThrow(
      expect.objectContaining({ exitCode: 69, message: expect.stringContaining(`knows up to ${from}`) }),
    )
    expect(statSync(join(scratch.path, 'purser.db'))).toMatchObject({
      mtimeMs: before.mtimeMs,
      size: before.size,
    })
    open(scratch, [addColumn], from + 1).database.close()
  })

  test('a new store is of the present version and needs no step', () => {
    using scratch = new Scratch()
    const { database, created, migrationCopy } = open(scratch, [], from)
    expect({ created, migrationCopy, version: versionOf(database) }).toEqual({
      created: true,
      migrationCopy: null,
      version: from,
    })
    database.close()
  })
})
