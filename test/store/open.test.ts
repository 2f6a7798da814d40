import { spawnSync } from 'node:child_process'
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { StartError } from '../../src/errors.ts'
import { openStore } from '../../src/store/sqlite/open.ts'
import { statementsOf } from '../../src/store/sqlite/statements.ts'
import { firstRows, openIn, Scratch } from './support.ts'

/** What `open` is refused with. */
function refusal(open: () => unknown): StartError {
  try {
    open()
  } catch (error) {
    expect(error).toBeInstanceOf(StartError)
    return error as StartError
  }
  throw new Error('it was not refused')
}

const pragma = (database: Database.Database, name: string) => database.pragma(name, { simple: true })

describe('an open store', () => {
  test('syncs every commit, at the first opening and at every later one', () => {
    using scratch = new Scratch()
    for (let opening = 0; opening < 3; opening++) {
      const database = openIn(scratch.path)
      expect(Number(pragma(database, 'synchronous'))).toBe(2)
      expect(pragma(database, 'journal_mode')).toBe('wal')
      expect(pragma(database, 'locking_mode')).toBe('exclusive')
      expect(Number(pragma(database, 'foreign_keys'))).toBe(1)
      expect(Number(pragma(database, 'trusted_schema'))).toBe(0)
      expect(Number(pragma(database, 'secure_delete'))).toBe(1)
      database.close()
    }
  })

  test('is made once, readable by its owner alone, with what it is told first', () => {
    using scratch = new Scratch()
    let told = 0
    const open = () =>
      openStore(scratch.path, (database) => {
        told += 1
        firstRows(database)
      })
    const first = open()
    expect(first).toMatchObject({ created: true, migrationCopy: null, path: join(scratch.path, 'purser.db') })
    expect(statSync(first.path).mode & 0o777).toBe(0o600)
    expect(statementsOf(first.database).storeGet()).toMatchObject({ userCount: 0, credentialCount: 0 })
    first.database.close()
    const second = open()
    expect(second.created).toBe(false)
    second.database.close()
    expect(told).toBe(1)
  })

  test('money comes back as bigint, exact to the last micro-dollar', () => {
    using scratch = new Scratch()
    const database = openIn(scratch.path)
    const statements = statementsOf(database)
    const micros = 999_999_999_999_999_999n
    statements.userInsert(
      {
        userId: 'alice',
        tier: 'free',
        email: null,
        perTradeMicros: micros,
        dailyMicros: 0n,
        exposureMicros: null,
        settlement: 'operator',
        maxSignaturesPerMinute: null,
      },
      1,
    )
    expect(statements.userGet('alice')).toMatchObject({
      perTradeMicros: micros,
      dailyMicros: 0n,
      exposureMicros: null,
    })
    database.close()
  })

  test('no other process opens it', () => {
    using scratch = new Scratch()
    const database = openIn(scratch.path)
    const script = `
      import Database from 'better-sqlite3'
      const db = new Database(process.argv[1], { timeout: 50 })
      try { console.log(db.prepare('SELECT count(*) FROM users').get()) } catch (error) { console.log(error.code) }
    `
    const other = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', script, join(scratch.path, 'purser.db')],
      {
        encoding: 'utf8',
      },
    )
    expect(other.stdout.trim()).toMatch(/^SQLITE_BUSY/)
    database.close()
    openIn(scratch.path).close()
  })

  test('nor does this one a second time', () => {
    using scratch = new Scratch()
    const database = openIn(scratch.path)
    const error = refusal(() => openIn(scratch.path))
    expect(error.exitCode).toBe(69)
    expect(error.message).toContain('in use by another purserd')
    database.close()
  })

  test('it is strict: no column takes what is not of its kind', () => {
    using scratch = new Scratch()
    const database = openIn(scratch.path)
    for (const sql of [
      "UPDATE store SET created_at_ms = 'yesterday'",
      'UPDATE store SET user_count = 0.5',
      "INSERT INTO audit (seq, at_ms, action, outcome, details, hash) VALUES (1, 1, 'x', 'perhaps', '{}', zeroblob(32))",
      "INSERT INTO audit (seq, at_ms, action, outcome, details, hash) VALUES (1, 1, 'x', 'ok', '{}', zeroblob(31))",
      'INSERT INTO store (id, store_id, created_at_ms) VALUES (2, zeroblob(16), 1)',
    ])
      expect(() => database.exec(sql), sql).toThrow(/SQLITE_CONSTRAINT|CHECK|cannot store/)
    database.close()
  })
})

describe('what is no store of ours', () => {
  test('another program’s database, in WAL mode and with frames not yet checkpointed, is left to the byte', () => {
    using scratch = new Scratch()
    const path = join(scratch.path, 'purser.db')
    // Ended by a kill, so that nothing tidies up.
    const script = `
      import Database from 'better-sqlite3'
      const db = new Database(process.argv[1])
      db.pragma('journal_mode = WAL')
      db.exec('CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)')
      process.kill(process.pid, 'SIGKILL')
    `
    spawnSync(process.execPath, ['--input-type=module', '-e', script, path])
    const before = statSync(path)
    const error = refusal(() => openIn(scratch.path))
    expect(error.exitCode).toBe(69)
    expect(statSync(path)).toMatchObject({ mtimeMs: before.mtimeMs, size: before.size, mode: before.mode })
    const theirs = new Database(path)
    expect(theirs.prepare('SELECT x FROM theirs').pluck().all()).toEqual([1])
    theirs.close()
  })

  test.each([
    ['text', 'not a database at all, but longer than any header that could be looked at '.repeat(4)],
    ['nothing', ''],
    ['a magic alone', 'SQLite format 3\0'],
  ])('%s', (_what, content) => {
    using scratch = new Scratch()
    writeFileSync(join(scratch.path, 'purser.db'), content)
    const error = refusal(() => openIn(scratch.path))
    expect(error.exitCode).toBe(69)
    expect(error.message).not.toContain('\n')
    expect(error.hint.length).toBeGreaterThan(0)
  })
})
