import { createHash, randomUUID } from 'node:crypto'
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { old } from './binding-acts.ts'
import { Story } from './story.ts'

const hidden = (directory: string) => readdirSync(directory).filter((name) => name.startsWith('.'))

/** A daemon on nothing but the copy. */
async function restored(from: string, story: Story): Promise<Story> {
  const dataDirectory = join(story.purser.directory, `restored-${performance.now()}`)
  mkdirSync(dataDirectory, { mode: 0o700 })
  copyFileSync(from, join(dataDirectory, 'purser.db'))
  return await Story.begin({ masterKey: story.purser.masterKey, dataDirectory })
}

describe('backup.create', () => {
  test('a copy that opens with the key it names, and says what was there', async () => {
    await using story = await Story.begin()
    await story.ok('credentials.store', { userId: 'alice', ...old })
    const revoked = await story.store('alice', 5)
    await story.ok('credentials.revoke', { userId: 'alice', credentialId: revoked })
    const before = await story.ok('credentials.list')
    const path = join(story.purser.directory, 'copy.db')
    const made = await story.ok('backup.create', { path })
    const bytes = readFileSync(path)
    expect(made).toEqual({
      path,
      bytes: bytes.length,
      sha256: createHash('sha256').update(bytes).digest('hex'),
      keyId: (await story.ok('system.status')).masterKey.keyId,
    })
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(hidden(dirname(path))).toEqual([])
    for (const secret of Object.values(old)) expect(bytes.includes(secret)).toBe(false)

    // What comes after it is not in it.
    await story.store('alice', 6)
    await using copy = await restored(path, story)
    expect(await copy.ok('credentials.list')).toEqual(before)
    expect(await copy.ok('credentials.retrieve', { userId: 'alice' })).toMatchObject(old)
    await copy.refused('CredentialRevoked', 'credentials.retrieve', {
      userId: 'alice',
      credentialId: revoked,
    })
    await copy.chainHolds()
  })

  test('without a path it goes beside the store, under a name of its own each time', async () => {
    await using story = await Story.begin()
    const paths = []
    for (let n = 0; n < 3; n++) {
      const { path } = await story.ok('backup.create')
      expect(dirname(path)).toBe(story.purser.dataDirectory)
      paths.push(path)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    expect(new Set(paths).size).toBe(3)
    expect(hidden(story.purser.dataDirectory)).toEqual([])
    // The daemon starts on what it finds there.
    await story.restart()
    await story.chainHolds()
  })

  test('removes what a killed one left beside it an hour ago, and not what another is writing', async () => {
    await using story = await Story.begin()
    const name = () => join(story.purser.directory, `.purser-backup-${randomUUID()}`)
    const hoursAgo = (hours: number, path: string) => {
      writeFileSync(path, 'half')
      const seconds = Date.now() / 1000 - hours * 3600
      utimesSync(path, seconds, seconds)
      return basename(path)
    }
    hoursAgo(1.01, name())
    const fresh = hoursAgo(0.9, name())
    const foreign = hoursAgo(5, join(story.purser.directory, '.purser-backup-of-mine'))
    await story.ok('backup.create', { path: join(story.purser.directory, 'copy.db') })
    expect(hidden(story.purser.directory).sort()).toEqual([fresh, foreign].sort())
  })

  test('while others write: one moment of the store, whole', async () => {
    await using story = await Story.begin()
    // Some megabytes, so that it takes a few slices.
    for (let fill = 0; fill < 200; fill += 50)
      await Promise.all(
        Array.from({ length: 50 }, (_, n) =>
          story.store('alice', fill + n, { passphrase: 'p'.repeat(1000) }),
        ),
      )
    const writer = story.connect()
    let writing = true
    let written = 0
    const done = (async () => {
      while (writing) {
        await story.ok('users.put', { userId: 'bob', email: `${written}@example.org` }, writer)
        written += 1
      }
    })()
    const path = join(story.purser.directory, 'copy.db')
    const before = await story.headSeq()
    await story.ok('backup.create', { path })
    const after = await story.headSeq()
    writing = false
    await done
    expect(written).toBeGreaterThan(0)
    const copy = new Database(path, { readonly: true })
    expect(copy.pragma('integrity_check', { simple: true })).toBe('ok')
    const head = copy.prepare('SELECT max(seq) FROM audit').pluck().get() as number
    expect(head).toBeGreaterThanOrEqual(before)
    expect(head).toBeLessThanOrEqual(after)
    copy.close()
    await using second = await restored(path, story)
    await second.chainHolds()
    const { credentials } = await second.ok('credentials.list', { limit: 1000 })
    expect(credentials).toHaveLength(200)
  })

  test('one at a time', async () => {
    await using story = await Story.begin()
    const name = (n: number) => join(story.purser.directory, `copy-${n}.db`)
    const answers = await Promise.all(
      Array.from({ length: 5 }, (_, n) => story.main.call('backup.create', { path: name(n) })),
    )
    const made = answers.filter(({ result }) => result !== undefined)
    expect(made.length).toBeGreaterThanOrEqual(1)
    for (const { error } of answers) {
      if (error !== undefined)
        expect(error).toMatchObject({
          code: 1003,
          data: { type: 'Overloaded', retryAfterMs: expect.any(Number) },
        })
    }
    const files = readdirSync(story.purser.directory).filter((file) => file.startsWith('copy-'))
    expect(files).toHaveLength(made.length)
    // Afterwards the next may be made.
    await story.ok('backup.create', { path: name(9) })
  })

  test('without its entry there is no copy, and the path is free for the next try', async () => {
    await using story = await Story.begin()
    const onStore = (sql: string) =>
      story.restart(() => {
        const store = new Database(join(story.purser.dataDirectory, 'purser.db'))
        store.exec(sql)
        store.close()
      })
    await onStore(`CREATE TRIGGER mute BEFORE INSERT ON audit WHEN NEW.action = 'backup_created'
      BEGIN SELECT RAISE(ABORT, 'no'); END`)
    const path = join(story.purser.directory, 'copy.db')
    await story.refused('StorageUnavailable', 'backup.create', { path })
    expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined()
    expect(hidden(dirname(path))).toEqual([])
    await onStore('DROP TRIGGER mute')
    await story.ok('backup.create', { path })
  })

  test('into a directory that goes away, or may not be written', async () => {
    await using story = await Story.begin()
    const gone = join(story.purser.directory, 'gone')
    mkdirSync(gone)
    rmSync(gone, { recursive: true })
    const error = await story.refused('InvalidParams', 'backup.create', { path: join(gone, 'copy.db') })
    expect(error.data.issues).toEqual([{ path: 'path', message: expect.any(String) }])
    await story.refused('InvalidParams', 'backup.create', { path: '/proc/copy.db' })
    await story.refused('InvalidParams', 'backup.create', {
      path: join(story.purser.dataDirectory, 'purser.db', 'x'),
    })
  })
})
