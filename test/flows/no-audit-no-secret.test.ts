import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, type TestContext, test } from 'vitest'
import { skipWith } from '../support/skip.ts'
import { old } from './binding-acts.ts'
import { Story, sample, until } from './story.ts'

// Where the audit entry cannot be written nothing is released and nothing is done: StorageUnavailable. Once it can be
// written again all goes on, without a restart, and the chain holds.

/** Calls that need an entry. None of them may succeed, nor show a secret. */
const needAnEntry: [method: string, params: object][] = [
  ['credentials.retrieve', { userId: 'cached' }],
  ['credentials.retrieve', { userId: 'cold' }],
  ['credentials.retrieve', { userId: 'nobody' }],
  ['credentials.store', sample('another', 5)],
  ['credentials.update', { userId: 'cached', credentialId: 1, name: 'changed' }],
  ['credentials.update', { userId: 'cached', credentialId: 1, privateKeyPolicy: 'sign-only' }],
  ['credentials.replace', { ...sample('cached', 6), credentialId: 1 }],
  ['credentials.rotate', { userId: 'cached', credentialId: 1 }],
  ['credentials.rotate', { userId: 'cached' }],
  ['credentials.revoke', { userId: 'cold', credentialId: 2 }],
  ['users.put', { userId: 'another' }],
  ['users.resetDecryptions', { userId: 'cached' }],
]

async function prepare(story: Story): Promise<void> {
  await story.ok('credentials.store', { userId: 'cached', ...old })
  await story.ok('credentials.store', { userId: 'cold', ...old })
  await story.ok('credentials.retrieve', { userId: 'cached' })
}

async function expectNothingDone(story: Story): Promise<void> {
  const before = await story.ok('credentials.list')
  for (const [method, params] of needAnEntry) {
    const answer = await story.main.call(method, params)
    expect(answer, method).toMatchObject({
      error: { code: 5001, data: { type: 'StorageUnavailable', retryable: true } },
    })
    expect(Object.keys(answer.error!.data).sort()).toEqual(['hint', 'retryable', 'type'])
    for (const secret of Object.values(old)) expect(JSON.stringify(answer)).not.toContain(secret)
  }
  // What needs no entry works; and nothing has changed.
  expect(await story.ok('system.ping')).toMatchObject({ pong: true })
  expect((await story.ok('system.health')).status).toBe('degraded')
  expect(await story.ok('credentials.list')).toEqual(before)
  await story.refused('NotFound', 'users.get', { userId: 'another' })
}

async function expectRecovered(story: Story, seqBefore: number): Promise<void> {
  for (const userId of ['cached', 'cold'])
    expect(await story.ok('credentials.retrieve', { userId })).toMatchObject(old)
  await story.ok('users.put', { userId: 'cached' })
  const told = await story.entries(seqBefore)
  // Not one entry of what was refused: the log goes on where it had stopped.
  expect(told.map(({ seq, action, outcome }) => [seq, action, outcome])).toEqual([
    [seqBefore + 1, 'api_key_retrieved', 'ok'],
    [seqBefore + 2, 'api_key_retrieved', 'ok'],
    [seqBefore + 3, 'user_put', 'ok'],
  ])
  await until(async () => (await story.ok('system.health')).status === 'ok')
  await story.chainHolds()
  await story.restart()
  await story.chainHolds()
  await story.ok('credentials.retrieve', { userId: 'cached' })
}

function run(context: TestContext, why: string, command: string, ...args: string[]): void {
  try {
    execFileSync(command, args, { stdio: 'pipe' })
  } catch (error) {
    skipWith(context.skip, `${why} (${String(error).split('\n')[0]})`)
  }
}

/** A file system of its own of 2 MiB; answers its directory and how to fill and empty it. */
function smallDisk(context: TestContext) {
  const base = mkdtempSync(join(tmpdir(), 'purser-disk-'))
  const data = join(base, 'disk')
  mkdirSync(data)
  const remove = () => rmSync(base, { recursive: true, force: true })
  context.onTestFinished(remove)
  run(
    context,
    'a tmpfs cannot be mounted here',
    'mount',
    '-t',
    'tmpfs',
    '-o',
    'size=2m,mode=0700',
    'tmpfs',
    data,
  )
  const ballast = join(data, 'ballast')
  return {
    data,
    fill() {
      const fd = openSync(ballast, 'a')
      const block = Buffer.alloc(4096, 1)
      try {
        for (;;) writeSync(fd, block)
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
      } finally {
        closeSync(fd)
      }
    },
    empty: () => unlinkSync(ballast),
    [Symbol.dispose]: () => void execFileSync('umount', ['--lazy', data]),
  }
}

test('a full disk', async (context) => {
  using disk = smallDisk(context)
  await using story = await Story.begin({ dataDirectory: disk.data, config: { store: { reserve_mb: 0 } } })
  await prepare(story)
  for (let round = 0; round < 3; round++) {
    const seqBefore = await story.headSeq()
    disk.fill()
    await until(async () => (await story.main.call('users.put', { userId: 'cached' })).error !== undefined)
    const told = await story.entries(seqBefore)
    expect(told.every(({ action }) => action === 'user_put')).toBe(true)
    const filledAt = await story.headSeq()
    await expectNothingDone(story)
    expect(await story.headSeq()).toBe(filledAt)
    disk.empty()
    await expectRecovered(story, filledAt)
  }
})

test('a full disk under a crowd: whoever got a secret has an entry', async (context) => {
  using disk = smallDisk(context)
  await using story = await Story.begin({ dataDirectory: disk.data, config: { store: { reserve_mb: 0 } } })
  await prepare(story)
  const seqBefore = await story.headSeq()
  const clients = Array.from({ length: 4 }, () => story.connect())
  let released = 0
  let refused = 0
  const hammer = async (client: (typeof clients)[number]) => {
    for (let n = 0; n < 150; n++) {
      const answer = await client.call('credentials.retrieve', { userId: 'cached' })
      if (answer.result !== undefined) released += 1
      else {
        expect(answer.error!.data.type).toBe('StorageUnavailable')
        refused += 1
      }
    }
  }
  const all = Promise.all(clients.map(hammer))
  for (let round = 0; round < 10; round++) {
    await new Promise((resolve) => setTimeout(resolve, 10))
    disk.fill()
    await new Promise((resolve) => setTimeout(resolve, 10))
    disk.empty()
  }
  await all
  expect(refused).toBeGreaterThan(0)
  expect(await story.entries(seqBefore)).toHaveLength(released)
  await story.chainHolds()
})

test('below the reserve', async (context) => {
  using disk = smallDisk(context)
  await using story = await Story.begin({ dataDirectory: disk.data, config: { store: { reserve_mb: 1 } } })
  await prepare(story)
  const seqBefore = await story.headSeq()
  // A megabyte of the two: less is left than the reserve, but enough to write.
  const fd = openSync(join(disk.data, 'ballast'), 'a')
  writeSync(fd, Buffer.alloc(1024 * 1024))
  closeSync(fd)
  await until(async () => (await story.ok('system.health')).status === 'degraded')
  for (const [method, params] of needAnEntry) {
    if (method === 'credentials.revoke') continue
    const error = await story.refused('StorageUnavailable', method, params)
    expect(error.message).toContain('reserve_mb')
  }
  await story.refused('StorageUnavailable', 'backup.create', {})
  // Unaudited reads go on, and so does what takes access away, with its entry.
  for (const [method, params] of [
    ['system.status', {}],
    ['users.list', {}],
    ['users.get', { userId: 'cold' }],
    ['credentials.get', { userId: 'cold', credentialId: 2 }],
    ['credentials.list', {}],
    ['credentials.expiring', { withinDays: 1 }],
    ['audit.query', {}],
    ['audit.verify', {}],
    ['audit.failures', {}],
    ['rpc.discover', {}],
  ] as const)
    await story.ok(method, params)
  expect(await story.ok('credentials.revoke', { userId: 'cold', credentialId: 2 })).toMatchObject({
    status: 'revoked',
  })
  expect((await story.entries(seqBefore)).map(({ action }) => action)).toEqual(['api_key_revoked'])
  disk.empty()
  await until(async () => (await story.ok('system.health')).status === 'ok')
  expect(await story.ok('credentials.retrieve', { userId: 'cached' })).toMatchObject(old)
})

test('files made immutable', async (context) => {
  await using story = await Story.begin()
  await prepare(story)
  const seqBefore = await story.headSeq()
  const files = ['purser.db', 'purser.db-wal'].map((name) => join(story.purser.dataDirectory, name))
  run(context, 'files cannot be made immutable here', 'chattr', '+i', ...files)
  try {
    await expectNothingDone(story)
  } finally {
    execFileSync('chattr', ['-i', ...files])
  }
  await expectRecovered(story, seqBefore)
})

/** A trigger in the store's own file: the insert of the entry fails, in each of the ways SQLite has for that. */
test.each(['ABORT', 'FAIL', 'ROLLBACK', 'IGNORE'])('a trigger that raises %s', async (how) => {
  await using story = await Story.begin()
  await prepare(story)
  const onStore = (sql: string) =>
    story.restart(() => {
      const store = new Database(join(story.purser.dataDirectory, 'purser.db'))
      store.exec(sql)
      store.close()
    })
  const raise = how === 'IGNORE' ? 'RAISE(IGNORE)' : `RAISE(${how}, 'not to be')`
  await onStore(
    `CREATE TRIGGER mute BEFORE INSERT ON audit WHEN NEW.action LIKE 'api_key_%' BEGIN SELECT ${raise}; END`,
  )
  const seqBefore = await story.headSeq()
  for (const [method, params] of needAnEntry) {
    if (!method.startsWith('credentials.')) continue
    const answer = await story.main.call(method, params)
    expect(answer, method).toMatchObject({ error: { code: 5001 } })
    for (const secret of Object.values(old)) expect(JSON.stringify(answer)).not.toContain(secret)
  }
  // In one turn with requests that would do.
  const together = await Promise.all(
    ['cold', 'nobody'].flatMap((userId) => [
      story.main.call('users.put', { userId: 'bystander' }),
      story.main.call('credentials.retrieve', { userId }),
      story.main.call('users.get', { userId: 'cold' }),
    ]),
  )
  for (const answer of together) {
    for (const secret of Object.values(old)) expect(JSON.stringify(answer)).not.toContain(secret)
  }
  expect((await story.entries(seqBefore)).every(({ action }) => action === 'user_put')).toBe(true)
  await story.chainHolds()
  await onStore('DROP TRIGGER mute')
  expect(await story.ok('credentials.retrieve', { userId: 'cached' })).toMatchObject(old)
  await story.chainHolds()
})
