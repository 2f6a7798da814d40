import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { PurserError } from '../../src/errors.ts'
import type { Order } from '../../src/store/group-commit.ts'
import type { Transaction } from '../../src/store/operations.ts'
import { perform } from '../../src/store/operations.ts'
import { randomOf, testSeed } from '../flows/story.ts'
import { type EngineKind, entryOf, makeUser, TestStore } from './support.ts'

const unavailable = { type: 'StorageUnavailable' }
const kinds: EngineKind[] = ['direct', 'awaited']

function* failing(): Transaction<void> {
  yield* perform('auditHead')
  throw new PurserError('NotFound', { resource: 'user' })
}

/** What became of each promise, by its user or the error's type. */
async function outcomes(promises: Promise<unknown>[]): Promise<unknown[]> {
  const settled = await Promise.allSettled(promises)
  return settled.map((one) =>
    one.status === 'fulfilled' ? one.value : one.reason instanceof PurserError ? one.reason.type : one.reason,
  )
}

describe.each(kinds)('group commit on an engine that answers %s', (kind) => {
  test('one commit for the jobs of a turn; promises settle after it, in the order of execution', async () => {
    using store = new TestStore(kind)
    const settled: string[] = []
    store.engine.before = (step) => {
      if (step === 'commit') settled.push('commit')
    }
    const places: Order[] = []
    const all = ['a', 'b', 'c', 'd'].map((userId) => {
      const place = { order: 0, check: () => undefined }
      places.push(place)
      return store.commits.submit(makeUser(userId), place).then((value) => settled.push(value))
    })
    await Promise.all(all)
    expect(settled).toEqual(['commit', 'a', 'b', 'c', 'd'])
    expect(places.map(({ order }) => order)).toEqual([1, 2, 3, 4])
    expect(store.commits.latestOrder).toBe(4)
    expect(store.users).toEqual(['a', 'b', 'c', 'd'])
    expect(store.told).toEqual(['a', 'b', 'c', 'd'])
    expect(store.commits.figures).toEqual({ commits: 1, jobs: 4, failures: 0, queued: 0, largestBatch: 4 })
    expect(store.engine.log.filter((step) => step === 'auditSetMac')).toHaveLength(1)
  })

  test('what its place forbids when its turn has come is refused, and does nothing', async () => {
    using store = new TestStore(kind)
    let allowed = true
    const place = () => ({
      order: 0,
      check: () => {
        if (!allowed) throw new PurserError('Forbidden', { scope: null })
      },
    })
    const settled = await outcomes([
      store.commits.submit(makeUser('a'), place()),
      store.commits.submit(function* (unit) {
        yield* makeUser('b')(unit)
        allowed = false
        return 'b'
      }, place()),
      store.commits.submit(makeUser('c'), place(), () => entryOf('no-c', 'denied')),
    ])
    expect(settled).toEqual(['a', 'b', 'Forbidden'])
    expect(store.users).toEqual(['a', 'b'])
    expect(store.told).toEqual(['a', 'b', 'no-c'])
  })

  test('what a job does before it throws is undone, what others do stays', async () => {
    using store = new TestStore(kind)
    const settled = await outcomes([
      store.commits.submit(makeUser('a')),
      store.commits.submit(makeUser('b', failing)),
      store.commits.submit(makeUser('c')),
    ])
    expect(settled).toEqual(['a', 'NotFound', 'c'])
    expect(store.users).toEqual(['a', 'c'])
    expect(store.told).toEqual(['a', 'c'])
  })

  test('a refusal gets its entry in the same commit, in the place of what was undone', async () => {
    using store = new TestStore(kind)
    const seen: unknown[] = []
    const settled = await outcomes([
      store.commits.submit(makeUser('a')),
      store.commits.submit(makeUser('b', failing), null, (error) => {
        seen.push(error)
        return entryOf('refused', 'denied')
      }),
      store.commits.submit(makeUser('c', failing), null, () => null),
      store.commits.submit(makeUser('d')),
    ])
    expect(settled).toEqual(['a', 'NotFound', 'NotFound', 'd'])
    expect(seen).toEqual([expect.objectContaining({ type: 'NotFound' })])
    expect(store.users).toEqual(['a', 'd'])
    expect(store.told).toEqual(['a', 'refused', 'd'])
    expect(store.commits.figures.commits).toBe(1)
  })

  test('work that decides before it writes needs no savepoint, refused or not', async () => {
    using store = new TestStore(kind)
    const refusing = function* (): Transaction<string> {
      yield* perform('userGet', 'a')
      throw new PurserError('NotFound', { resource: 'user' })
    }
    const settled = await outcomes([
      store.commits.submit(makeUser('a'), null, null, 'batch'),
      store.commits.submit(refusing, null, () => entryOf('refused', 'denied'), 'batch'),
      store.commits.submit(makeUser('b'), null, null, 'batch'),
    ])
    expect(settled).toEqual(['a', 'NotFound', 'b'])
    expect(store.users).toEqual(['a', 'b'])
    expect(store.told).toEqual(['a', 'refused', 'b'])
    expect(store.engine.log).not.toContain('savepoint')
  })

  test('if it throws behind its first write all the same, nothing of the turn happened, and the next turn is sound', async () => {
    using store = new TestStore(kind)
    const settled = await outcomes([
      store.commits.submit(makeUser('a')),
      store.commits.submit(makeUser('b', failing), null, () => entryOf('refused', 'denied'), 'batch'),
      store.commits.submit(makeUser('c')),
    ])
    expect(settled).toEqual(['StorageUnavailable', 'StorageUnavailable', 'StorageUnavailable'])
    expect(store.users).toEqual([])
    expect(store.told).toEqual([])
    expect(await store.commits.submit(makeUser('d'))).toBe('d')
    expect(store.told).toEqual(['d'])
  })

  test('what is told after the commit is told of jobs that are on disk only, in their order, before their answers', async () => {
    using store = new TestStore(kind)
    const told: string[] = []
    const telling = (name: string, more?: (userId: string) => Transaction<void>) =>
      store.commits
        .submit(function* (unit): Transaction<string> {
          unit.afterCommit(() => told.push(`${name}, ${store.engine.inTransaction ? 'open' : 'committed'}`))
          return yield* makeUser(name, more)(unit)
        })
        .then((answer) => {
          told.push(`answer ${answer}`)
          return answer
        })
    await outcomes([telling('a'), telling('b', failing), telling('c')])
    expect(told).toEqual(['a, committed', 'c, committed', 'answer a', 'answer c'])
    store.database.exec(`CREATE TRIGGER gone BEFORE INSERT ON users WHEN NEW.user_id = 'gone'
      BEGIN SELECT RAISE(ROLLBACK, 'gone'); END`)
    expect(await outcomes([telling('d'), telling('gone')])).toEqual([
      'StorageUnavailable',
      'StorageUnavailable',
    ])
    expect(told).toHaveLength(4)
  })

  test('a job may catch an error of the store and go on', async () => {
    using store = new TestStore(kind)
    await store.commits.submit(makeUser('a'))
    const value = await store.commits.submit(function* (): Transaction<string> {
      try {
        yield* makeUser('a')({ audit: () => undefined })
        return 'no'
      } catch {
        return yield* makeUser('b')({ audit: () => undefined })
      }
    })
    expect(value).toBe('b')
    expect(store.users).toEqual(['a', 'b'])
  })

  test('a job sees what jobs before it wrote', async () => {
    using store = new TestStore(kind)
    const [, found] = await Promise.all([
      store.commits.submit(makeUser('a')),
      store.commits.submit(() => perform('userGet', 'a')),
    ])
    expect(found).toMatchObject({ userId: 'a' })
  })

  test('a job that only reads makes no savepoint and no entry', async () => {
    using store = new TestStore(kind)
    expect(await store.commits.submit(() => perform('userGet', 'a'))).toBeUndefined()
    expect(store.engine.log).toEqual(['begin', 'userGet', 'commit'])
  })

  test('a bug in a job is its own, and reaches its caller as it is', async () => {
    using store = new TestStore(kind)
    const bug = new TypeError('a bug')
    const settled = await outcomes([
      store.commits.submit(makeUser('a')),
      store.commits.submit(
        makeUser('b', function* () {
          throw bug
        }),
      ),
      // A constraint of the schema is a bug of ours too, no trouble of the store.
      store.commits.submit(makeUser('a')),
      store.commits.submit(makeUser('c')),
    ])
    expect(settled).toEqual([
      'a',
      bug,
      expect.objectContaining({ code: 'SQLITE_CONSTRAINT_PRIMARYKEY' }),
      'c',
    ])
    expect(store.users).toEqual(['a', 'c'])
    expect(store.failures).toEqual([])
  })

  test('more jobs than one commit takes come in the next ones, in order', async () => {
    using store = new TestStore(kind)
    const ids = Array.from({ length: 1200 }, (_, index) => String(index).padStart(4, '0'))
    expect(await Promise.all(ids.map((userId) => store.commits.submit(makeUser(userId))))).toEqual(ids)
    expect(store.told).toEqual(ids)
    const { commits, largestBatch, jobs } = store.commits.figures
    expect(jobs).toBe(1200)
    expect(commits).toBeGreaterThanOrEqual(3)
    expect(largestBatch).toBeLessThanOrEqual(512)
  })

  test('slow jobs close the commit early, so that nothing holds the loop for long', async () => {
    using store = new TestStore(kind)
    store.engine.before = (step) => {
      if (step !== 'userInsert') return
      const until = performance.now() + 8
      while (performance.now() < until);
    }
    const ids = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
    expect(await Promise.all(ids.map((userId) => store.commits.submit(makeUser(userId))))).toEqual(ids)
    expect(store.told).toEqual(ids)
    expect(store.commits.figures.commits).toBeGreaterThanOrEqual(2)
    expect(store.commits.figures.largestBatch).toBeLessThanOrEqual(4)
  })

  test('what is submitted while a commit runs, or by who it answers, comes in the next', async () => {
    using store = new TestStore(kind)
    let inside: Promise<string> | undefined
    store.engine.before = (step) => {
      if (step === 'commit') inside ??= store.commits.submit(makeUser('b'))
    }
    await store.commits.submit(makeUser('a')).then(() => store.commits.submit(makeUser('c')))
    await inside
    await store.commits.idle()
    expect(store.told.toSorted()).toEqual(['a', 'b', 'c'])
  })

  test('idle waits for all of it', async () => {
    using store = new TestStore(kind)
    await store.commits.idle()
    const done: string[] = []
    for (const userId of ['a', 'b']) void store.commits.submit(makeUser(userId)).then((id) => done.push(id))
    await store.commits.idle()
    await Promise.resolve()
    expect(store.users).toEqual(['a', 'b'])
  })
})

describe.each(kinds)('a store that fails, answering %s', (kind) => {
  const ioError = () => new Database.SqliteError('disk I/O error', 'SQLITE_IOERR_FSYNC')

  test('at the commit: nothing of the turn happened, everybody hears of it, and the next turn is sound', async () => {
    using store = new TestStore(kind)
    await store.commits.submit(makeUser('a'))
    let broken = true
    store.engine.before = (step) => {
      if (step === 'commit' && broken) throw ioError()
    }
    const settled = await Promise.allSettled([
      store.commits.submit(makeUser('b')),
      store.commits.submit(makeUser('c', failing), null, () => entryOf('c', 'denied')),
      store.commits.submit(() => perform('userGet', 'b')),
    ])
    for (const one of settled) expect(one).toMatchObject({ status: 'rejected', reason: unavailable })
    expect(store.commits.failing).toBe(true)
    expect(store.failures).toHaveLength(1)
    expect(store.commits.figures.failures).toBe(1)
    broken = false
    await store.commits.submit(makeUser('d'))
    expect(store.commits.failing).toBe(false)
    expect(store.users).toEqual(['a', 'd'])
    expect(store.told).toEqual(['a', 'd'])
  })

  test('at the beginning: the same', async () => {
    using store = new TestStore(kind)
    store.engine.before = (step) => {
      if (step === 'begin') throw new Database.SqliteError('database is locked', 'SQLITE_BUSY')
    }
    await expect(store.commits.submit(makeUser('a'))).rejects.toMatchObject(unavailable)
    store.engine.before = () => undefined
    await store.commits.submit(makeUser('b'))
    expect(store.told).toEqual(['b'])
  })

  test('in one job: its own work is undone, no refusal is made up for it, and others go on', async () => {
    using store = new TestStore(kind)
    store.engine.before = (step, operation) => {
      const [row] = (operation?.params ?? []) as [{ userId?: string }?]
      if (step === 'userInsert' && row?.userId === 'b') throw ioError()
    }
    const settled = await outcomes([
      store.commits.submit(makeUser('a')),
      store.commits.submit(makeUser('b'), null, () => entryOf('b', 'denied')),
      store.commits.submit(makeUser('c')),
    ])
    expect(settled).toEqual(['a', 'StorageUnavailable', 'c'])
    expect(store.told).toEqual(['a', 'c'])
    // The store failed a part of the turn: it does not count as sound for what else was written in it.
    expect(store.commits.failing).toBe(true)
    await store.commits.submit(() => perform('userGet', 'a'))
    expect(store.commits.failing).toBe(true)
    await store.commits.submit(makeUser('d'))
    expect(store.commits.failing).toBe(false)
  })

  test('at the entry: what it would have told of is undone', async () => {
    using store = new TestStore(kind)
    store.engine.before = (step, operation) => {
      const [row] = (operation?.params ?? []) as [{ userId?: string }?]
      if (step === 'auditInsert' && row?.userId === 'b') throw new Database.SqliteError('full', 'SQLITE_FULL')
    }
    const settled = await outcomes([
      store.commits.submit(makeUser('a')),
      store.commits.submit(makeUser('b')),
      // A read whose only write is its entry.
      store.commits.submit(function* (unit): Transaction<string> {
        yield* perform('userGet', 'a')
        unit.audit(entryOf('b'))
        return 'a secret'
      }),
      // A refusal whose entry cannot be written is not answered as such.
      store.commits.submit(failing, null, () => entryOf('b', 'denied')),
      store.commits.submit(makeUser('c')),
    ])
    expect(settled).toEqual(['a', 'StorageUnavailable', 'StorageUnavailable', 'StorageUnavailable', 'c'])
    expect(store.users).toEqual(['a', 'c'])
    expect(store.told).toEqual(['a', 'c'])
  })

  test('SQLite rolls back the whole transaction by itself: nobody of the turn is told that it was done', async () => {
    using store = new TestStore(kind)
    await store.commits.submit(makeUser('a'))
    store.database.exec(`CREATE TRIGGER gone BEFORE INSERT ON users WHEN NEW.user_id = 'c'
      BEGIN SELECT RAISE(ROLLBACK, 'gone'); END`)
    const settled = await outcomes([
      store.commits.submit(makeUser('b')),
      store.commits.submit(makeUser('c'), null, () => entryOf('c', 'denied')),
      store.commits.submit(makeUser('d')),
    ])
    expect(settled).toEqual(['StorageUnavailable', 'StorageUnavailable', 'StorageUnavailable'])
    expect(store.users).toEqual(['a'])
    expect(store.database.inTransaction).toBe(false)
    await store.commits.submit(makeUser('e'))
    expect(store.users).toEqual(['a', 'e'])
    expect(store.told).toEqual(['a', 'e'])
  })

  test('the transaction is gone at the commit: nobody is told that it was done', async () => {
    using store = new TestStore(kind)
    const settled = await outcomes([
      store.commits.submit(makeUser('a')),
      store.commits.submit(function* (): Transaction<string> {
        yield* perform('userGet', 'a')
        store.database.exec('ROLLBACK')
        return 'b'
      }),
    ])
    expect(settled).toEqual(['StorageUnavailable', 'StorageUnavailable'])
    expect(store.users).toEqual([])
    await store.commits.submit(makeUser('c'))
    expect(store.told).toEqual(['c'])
  })

  test('the transaction is lost and a job takes it for a refusal', async () => {
    using store = new TestStore(kind)
    store.database.exec(`CREATE TRIGGER gone BEFORE INSERT ON users WHEN NEW.user_id = 'a'
      BEGIN SELECT RAISE(ROLLBACK, 'gone'); END`)
    const settled = await outcomes([
      store.commits.submit(function* (): Transaction<string> {
        try {
          yield* makeUser('a')({ audit: () => undefined })
        } catch {
          // Goes on, as if nothing were.
        }
        return yield* makeUser('b')({ audit: () => undefined })
      }),
      store.commits.submit(makeUser('c')),
    ])
    expect(settled).toEqual(['StorageUnavailable', 'StorageUnavailable'])
    expect(store.users).toEqual([])
    expect(store.told).toEqual([])
  })

  test('a full store: whoever was told that it was done finds it done, and it goes on when there is room', async () => {
    using store = new TestStore(kind)
    await store.commits.submit(makeUser('first'))
    const pages = Number(store.database.pragma('page_count', { simple: true }))
    store.database.pragma(`max_page_count = ${pages + 3}`)
    const done: unknown[] = ['first']
    let lost = 0
    for (let round = 0; lost < 3; round++) {
      const ids = Array.from({ length: 20 }, (_, index) => `${round}-${index}-${'x'.repeat(100)}`)
      const settled = await outcomes(ids.map((userId) => store.commits.submit(makeUser(userId))))
      done.push(...settled.filter((one) => one !== 'StorageUnavailable'))
      if (settled.includes('StorageUnavailable')) lost += 1
      expect(store.users.toSorted()).toEqual(done.toSorted())
      expect(store.told).toEqual(done)
    }
    expect(store.commits.failing).toBe(true)
    store.database.pragma('max_page_count = 1000000')
    done.push(await store.commits.submit(makeUser('last')))
    expect(store.told).toEqual(done)
  })

  test('an insert that does nothing is no entry', async () => {
    using store = new TestStore(kind)
    store.database.exec(`CREATE TRIGGER mute BEFORE INSERT ON audit WHEN NEW.user_id = 'b'
      BEGIN SELECT RAISE(IGNORE); END`)
    const settled = await outcomes([
      store.commits.submit(makeUser('a')),
      store.commits.submit(makeUser('b')),
      store.commits.submit(failing, null, () => entryOf('b', 'denied')),
      store.commits.submit(makeUser('c')),
    ])
    expect(settled).toEqual(['a', 'StorageUnavailable', 'StorageUnavailable', 'c'])
    expect(store.users).toEqual(['a', 'c'])
    expect(store.told).toEqual(['a', 'c'])
  })
})

test('a queue beyond all bounds is Overloaded', async () => {
  using store = new TestStore()
  const waiting = Array.from({ length: 65_536 }, () => store.commits.submit(() => perform('userGet', 'a')))
  expect(store.commits.figures.queued).toBe(65_536)
  await expect(store.commits.submit(makeUser('b'))).rejects.toMatchObject({ type: 'Overloaded' })
  await Promise.all(waiting)
  expect(await store.commits.submit(makeUser('b'))).toBe('b')
})

describe.each(kinds)('at random, answering %s', (kind) => {
  const seed = testSeed()
  test(`what is told is what is done (PURSER_TEST_SEED=${seed})`, async () => {
    using store = new TestStore(kind)
    const random = randomOf(seed)
    let broken = ''
    store.engine.before = (step) => {
      if (step === broken) {
        broken = ''
        throw new Database.SqliteError('disk I/O error', 'SQLITE_IOERR_WRITE')
      }
    }
    const steps = ['begin', 'commit', 'savepoint', 'release', 'rollbackToSavepoint'].concat([
      'auditHead',
      'userInsert',
      'auditInsert',
      'auditSetMac',
    ])
    const users = new Set<string>()
    const told: string[] = []
    for (let round = 0; round < 60; round++) {
      broken = random() < 0.5 ? steps[Math.floor(random() * steps.length)]! : ''
      const jobs = Array.from({ length: 1 + Math.floor(random() * 12) }, (_, index) => {
        const userId = `${round}-${index}`
        const fails = random() < 0.3
        const refused = random() < 0.5
        // Only work that refuses nothing behind a write may do without a savepoint.
        const undo = !fails && random() < 0.5 ? 'batch' : 'savepoint'
        const work = makeUser(userId, fails ? failing : undefined)
        const place = { order: 0, check: () => undefined }
        const promise = store.commits.submit(
          work,
          place,
          refused ? () => entryOf(`no-${userId}`, 'denied') : null,
          undo,
        )
        return { userId, fails, refused, promise }
      })
      const settled = await outcomes(jobs.map(({ promise }) => promise))
      for (const [index, { userId, fails, refused }] of jobs.entries()) {
        const outcome = settled[index]
        if (outcome === userId) {
          expect(fails).toBe(false)
          users.add(userId)
          told.push(userId)
        } else if (outcome === 'NotFound') {
          expect(fails).toBe(true)
          if (refused) told.push(`no-${userId}`)
        } else expect(outcome).toBe('StorageUnavailable')
      }
      expect(new Set(store.users)).toEqual(users)
      expect(store.told).toEqual(told)
      expect(store.database.inTransaction).toBe(false)
    }
    expect(told.length).toBeGreaterThan(50)
  })
})
