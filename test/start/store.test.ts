import { createHash, randomBytes, randomUUID } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { beforeEach, describe, expect, test } from 'vitest'
import { DiskShim } from '../support/faults/disk-shim.ts'
import { apiSecret } from '../support/flow.ts'
import { RawClient } from '../support/raw-client.ts'
import { cleanUp, keyFile, otherUid, refusal, startReady, temporaryDirectory } from './purserd.ts'

cleanUp()

let home: string
let data: string
let store: string
let args: string[]

beforeEach(() => {
  home = temporaryDirectory()
  data = join(home, 'data')
  store = join(data, 'purser.db')
  args = ['--data-dir', data, '--socket', join(home, 's'), '--master-key-file', keyFile(home)]
})

/** A store with something in it, closed. */
async function makeStore(): Promise<void> {
  const purserd = await startReady(args, home, { env: { PURSER_KDF_MEMORY_KIB: '8' } })
  const client = new RawClient(join(home, 's'))
  await client.call('credentials.store', { userId: 'alice', apiKey: 'k', apiSecret: apiSecret(1) })
  client.close()
  expect((await purserd.stop()).code).toBe(0)
}

/** What lies in the data directory: names, modes, contents. */
function contents(): string[] {
  return readdirSync(data).map((name) => {
    const path = join(data, name)
    const { mode, size } = statSync(path)
    const hash = statSync(path).isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : ''
    return `${name} ${mode.toString(8)} ${size} ${hash}`
  })
}

/** The start is refused with 69 and a line that fits, and nothing in the data directory is other than before. */
async function refusedUnchanged(line: RegExp): Promise<void> {
  const before = contents()
  expect(await refusal(69, args, home)).toMatch(line)
  expect(contents()).toEqual(before)
  expect(existsSync(join(home, 's'))).toBe(false)
}

describe('a store that cannot be used is 69 and stays as it was', () => {
  test('held by another purserd, which goes on', async () => {
    const first = await startReady(args, home)
    const second = args.with(3, join(home, 'other'))
    expect(await refusal(69, second, home)).toBe(
      `${store} is in use by another purserd; stop it, or name another --data-dir`,
    )
    const client = new RawClient(join(home, 's'))
    expect((await client.call('system.ping')).result).toMatchObject({ pong: true })
    client.close()
    expect((await first.stop()).code).toBe(0)
  })

  test.each<[string, string | Buffer, RegExp]>([
    ['text', 'not a database, whatever its name\n'.repeat(200), /^\S+ is not a purser store/],
    ['noise', randomBytes(16_384), /^\S+ is not a purser store/],
    ['a few bytes', 'SQLite format 3\0', /^\S+ is not a purser store/],
    ['nothing', '', /^\S+ is damaged; restore a backup/],
  ])('a file of %s', async (_, bytes, line) => {
    mkdirSync(data, { mode: 0o700 })
    writeFileSync(store, bytes, { mode: 0o644 })
    await refusedUnchanged(line)
  })

  test.each(['delete', 'wal'])('a database of another program (journal mode %s)', async (mode) => {
    mkdirSync(data, { mode: 0o700 })
    const foreign = new Database(store)
    foreign.pragma(`journal_mode = ${mode}`)
    foreign.exec('CREATE TABLE mine (x); INSERT INTO mine VALUES (1)')
    // As if that program had been killed: its log is still beside it, and is its own to replay.
    const wal = mode === 'wal' ? readFileSync(`${store}-wal`) : null
    foreign.close()
    if (wal !== null) writeFileSync(`${store}-wal`, wal)
    chmodSync(store, 0o640)
    await refusedUnchanged(/^\S+ is a database of another program; .*the file was not changed$/)
  })

  test('a newer schema', async () => {
    await makeStore()
    const newer = new Database(store)
    newer.pragma('user_version = 99')
    newer.pragma('journal_mode = DELETE')
    newer.close()
    await refusedUnchanged(
      /^\S+ has schema version 99; this purser knows up to \d+; install the newer purser/,
    )
  })

  test('an older schema that no step leads from', async () => {
    await makeStore()
    const older = new Database(store)
    older.pragma('user_version = 0')
    older.close()
    expect(await refusal(69, args, home)).toMatch(/^\S+ has schema version 0, which this purser cannot bring/)
  })

  test('cut off, at a page and within one', async () => {
    await makeStore()
    const { size } = statSync(store)
    for (const length of [size - 4096, 8192, 5000, 4096, 100]) {
      truncateSync(store, length)
      await refusedUnchanged(/^\S+ is (damaged|not a purser store)/)
    }
  })

  test('cut off to nothing while its log still holds everything', async () => {
    const purserd = await startReady(args, home)
    await purserd.stop('SIGKILL')
    unlinkSync(join(home, 's'))
    expect(statSync(`${store}-wal`).size).toBeGreaterThan(0)
    truncateSync(store, 0)
    await refusedUnchanged(/^\S+ is damaged; restore a backup/)
    unlinkSync(store)
    await refusedUnchanged(/^\S+ is missing, but \S+-wal is there; put back the store/)
  })

  test('a page overwritten', async () => {
    await makeStore()
    const bytes = readFileSync(store)
    // Each page but the first; so whatever the page holds, tables or indexes.
    bytes.fill(0xa5, 4096)
    writeFileSync(store, bytes)
    await refusedUnchanged(/^\S+ is damaged; restore a backup/)
  })

  test('without its key material, or without a table', async () => {
    await makeStore()
    const database = new Database(store)
    database.exec('DELETE FROM master_keys')
    database.pragma('journal_mode = DELETE')
    expect(await refusal(69, args, home)).toMatch(/^the store is damaged: it has no key material; restore/)
    database.exec('DROP TABLE audit')
    database.close()
    expect(await refusal(69, args, home)).toMatch(/is damaged; restore a backup/)
  })

  test('a directory or a symbolic link in its place', async () => {
    mkdirSync(store, { recursive: true, mode: 0o700 })
    await refusedUnchanged(/^cannot open \S+: it is a directory; /)
    const linked = join(home, 'linked')
    mkdirSync(linked, { mode: 0o700 })
    symlinkSync(join(home, 'gone'), join(linked, 'purser.db'))
    data = linked
    args[1] = linked
    expect(await refusal(69, args, home)).toMatch(/^cannot open \S+: it is a symbolic link; /)
  })
})

describe('a data directory that cannot be used is 69', () => {
  test('it is a file, or lies below one', async () => {
    writeFileSync(join(home, 'file'), '')
    chmodSync(join(home, 'file'), 0o755)
    for (const path of [join(home, 'file'), join(home, 'file/below')]) {
      args[1] = path
      expect(await refusal(69, args, home)).toBe(
        `cannot use the data directory ${path}: not a directory; name a directory of its own that this uid may write with --data-dir`,
      )
    }
  })

  test('it is shared with others: it is not closed to them', async () => {
    mkdirSync(join(data, 'something'), { recursive: true })
    chmodSync(data, 0o755)
    expect(await refusal(69, args, home)).toMatch(/is open to others and holds more than a store; name/)
    expect(statSync(data).mode & 0o777).toBe(0o755)
    const sticky = join(home, 'sticky')
    mkdirSync(sticky)
    chmodSync(sticky, 0o1777)
    args[1] = sticky
    expect(await refusal(69, args, home)).toMatch(/is open to others and holds more than a store; name/)
    expect(readdirSync(sticky)).toEqual([])
  })

  test('another uid may not write there, or not even enter', async ({ skip }) => {
    const uid = otherUid(skip)
    chmodSync(home, 0o755)
    const own = join(home, 'own')
    mkdirSync(own, { mode: 0o700 })
    chownSync(own, uid, uid)
    const foreign = join(home, 'foreign')
    mkdirSync(foreign, { mode: 0o755 })
    const key = keyFile(own)
    chownSync(key, uid, uid)
    const as = { spawn: { uid, gid: uid } }
    const start = (directory: string) => [
      ...['--data-dir', directory, '--socket', join(own, 's'), '--master-key-file', key],
    ]
    const line = (directory: string) =>
      `cannot use the data directory ${directory}: permission denied; name a directory of its own that this uid may write with --data-dir`
    for (const directory of [foreign, join(foreign, 'new')]) {
      expect(await refusal(69, start(directory), own, as)).toBe(line(directory))
    }
    chmodSync(foreign, 0o700)
    expect(await refusal(69, start(foreign), own, as)).toMatch(/purser.db: permission denied; check/)
    // Its own, but not writable.
    const still = join(own, 'still')
    mkdirSync(still, { mode: 0o500 })
    chownSync(still, uid, uid)
    expect(await refusal(69, start(still), own, as)).toMatch(/^cannot open \S+: permission denied; check/)
    expect(await refusal(69, start(still).slice(0, 4), own, as)).toMatch(/^no master key can be generated/)
    // And the control: the same uid starts where it may.
    const purserd = await startReady(start(join(own, 'data')), own, as)
    expect(statSync(join(own, 'data/purser.db')).uid).toBe(uid)
    expect((await purserd.stop()).code).toBe(0)
    // A store of somebody else is not taken over.
    chmodSync(own, 0o755)
    chownSync(join(own, 'data'), uid, uid)
    chownSync(join(own, 'data/purser.db'), 0, 0)
    expect(await refusal(69, start(join(own, 'data')), own, as)).toMatch(
      /purser.db: permission denied; check/,
    )
  })
})

describe('a store is made whole or not at all', () => {
  test('and nothing else stays behind', async () => {
    await makeStore()
    expect(readdirSync(data)).toEqual(['purser.db'])
    const database = new Database(store, { readonly: true })
    expect(database.pragma('application_id', { simple: true })).toBe(0x50555253)
    expect(database.pragma('integrity_check', { simple: true })).toBe('ok')
    database.close()
  })

  test('two daemons that start at once: one serves, the other is refused', async () => {
    const both = [args, args.with(3, join(home, 't'))].map((each) => startReady(each, home))
    const outcomes = await Promise.allSettled(both)
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(readdirSync(data).filter((name) => name.includes('.new-'))).toEqual([])
  })

  test('what earlier runs left when they were killed is removed, and nothing that only looks like it', async ({
    skip,
  }) => {
    const uid = otherUid(skip)
    await makeStore()
    const uuid = randomUUID()
    const left = [
      'purser.db.new-0123456789abcdef',
      'master.key.new-0123456789abcdef',
      `.purser-backup-${uuid}`,
      `.purser-backup-${uuid}-journal`,
    ]
    const kept = [
      'purser.db.new-0123456789abcde',
      'purser.db.new-0123456789abcdef0',
      'purser.db.new-0123456789ABCDEF',
      'purser.db.new',
      'master.key.new',
      'a.key.new-0123456789abcdef',
      '.purser-backup-x',
      `.purser-backup-${uuid}-copy`,
      `purser-backup-${uuid}`,
    ]
    for (const name of [...left, ...kept]) writeFileSync(join(data, name), name, { mode: 0o600 })
    const odd = (digit: string) => `purser.db.new-${digit.repeat(16)}`
    mkdirSync(join(data, odd('1')))
    symlinkSync(join(data, kept[0]!), join(data, odd('2')))
    writeFileSync(join(data, odd('3')), '')
    chownSync(join(data, odd('3')), uid, uid)
    await startReady(args, home)
    const all = ['purser.db', 'purser.db-wal', ...kept, odd('1'), odd('2'), odd('3')]
    expect(readdirSync(data).sort()).toEqual(all.sort())
  })

  test('the name of a new data directory is on disk too, and of those above it', async ({ skip }) => {
    const shim = DiskShim.build()
    if (typeof shim === 'string') return skip(shim)
    try {
      // The last directory of the path that is there already, and one that is made.
      for (const [made, above] of [
        [join(home, 'a'), home],
        [join(home, 'b'), join(home, 'b')],
      ] as const) {
        const { env, control } = shim.around(home)
        control.set('sync', { error: 'EIO' })
        const started = args.with(1, join(made, 'data'))
        const line = await refusal(69, started, home, { env: { ...env, FAULTS_DIRECTORY: above } })
        expect(line).toMatch(/cannot use the data directory .*EIO/)
        expect(control.fired('sync')).toBe(1)
        control.close()
      }
    } finally {
      shim.remove()
    }
  })

  test('a store that others could read is closed to them', async () => {
    await makeStore()
    chmodSync(store, 0o644)
    await startReady(args, home)
    expect(statSync(store).mode & 0o777).toBe(0o600)
  })
})
