import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startPurser } from '../../../src/testing/index.ts'
import { keyIdOf } from '../../../src/vault/keyring.ts'
import { skipWith } from '../../support/skip.ts'
import { runCli } from '../run-cli.ts'

let directory: string
let data: string
let counter = 0
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-check-test-'))
  data = join(directory, 'data')
  mkdirSync(data, { mode: 0o700 })
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

function keyFile(key: Buffer): string {
  const path = join(directory, `key-${counter++}`)
  writeFileSync(path, key.toString('hex'), { mode: 0o600 })
  return path
}

/** Every name below the data directory, with what is in it and when it was last written. */
function snapshot(): string[] {
  return readdirSync(data).map((name) => {
    const path = join(data, name)
    const hash = createHash('sha256').update(readFileSync(path)).digest('hex')
    const { mtimeNs, mode } = statSync(path, { bigint: true })
    return [name, hash, mtimeNs, mode].join(' ')
  })
}

async function check(args: readonly string[], env: Record<string, string> = {}) {
  const result = await runCli(['--json', 'key', 'check', '--data-dir', data, ...args], { env })
  const finding = result.stdout === '' ? null : (JSON.parse(result.stdout) as Record<string, unknown>)
  return { ...result, finding }
}

describe('without a daemon', () => {
  test('no store and no key: one would be generated, and none is', async () => {
    const { code, finding } = await check([])
    expect(code).toBe(0)
    expect(finding).toEqual({
      source: { kind: 'generated', describe: join(data, 'master.key') },
      keyId: null,
      store: { path: join(data, 'purser.db'), keyIds: [], from: 'nobody' },
      opens: null,
    })
    expect(readdirSync(data)).toEqual([])
    const shown = await runCli(['key', 'check', '--data-dir', data])
    expect(shown.stdout).toContain('none: one would be generated at')
  })

  test('no store: its key is told, from the same places as purserd looks', async () => {
    const key = randomBytes(32)
    const byFlag = await check(['--master-key-file', keyFile(key)])
    expect(byFlag.finding).toMatchObject({ source: { kind: 'file' }, keyId: keyIdOf(key), opens: null })
    const byVariable = await check([], { PURSER_MASTER_KEY_FILE: keyFile(key) })
    expect(byVariable.finding).toMatchObject({ source: { kind: 'file' }, keyId: keyIdOf(key) })
    const inEnvironment = await check([], { MASTER_ENCRYPTION_KEY: key.toString('base64') })
    expect(inEnvironment.finding).toMatchObject({ source: { kind: 'environment' }, keyId: keyIdOf(key) })
    expect(inEnvironment.stderr).toContain('purser: the master key came in MASTER_ENCRYPTION_KEY')
    writeFileSync(join(data, 'purser.toml'), `[key]\nfile = ${JSON.stringify(keyFile(key))}\n`, {
      mode: 0o600,
    })
    expect((await check([])).finding).toMatchObject({ source: { kind: 'file' }, keyId: keyIdOf(key) })
    const config = join(directory, 'other.toml')
    writeFileSync(config, 'nonsense = 1\n', { mode: 0o600 })
    expect(await check(['--config', config])).toMatchObject({ code: 3, finding: null })
  })

  test('what keeps purserd from starting is exit 3 and its own words', async () => {
    const { code, stderr } = await check(['--master-key-file', '/nonexistent/key'])
    expect(code).toBe(3)
    expect(stderr).toMatch(/^purser: the key file \/nonexistent\/key does not exist\nhint: /)
    expect(await check([], { MASTER_ENCRYPTION_KEY: 'hush' })).toMatchObject({
      code: 3,
      stderr: expect.not.stringContaining('hush'),
    })
    writeFileSync(join(data, 'purser.db'), 'x')
    expect((await check([])).stderr).toContain('is there, but no master key is configured')
  })

  test('an empty file is no store yet', async () => {
    writeFileSync(join(data, 'purser.db'), '')
    const { finding } = await check(['--master-key-file', keyFile(randomBytes(32))])
    expect(finding).toMatchObject({ opens: null, store: { from: 'nobody' } })
  })

  test.each([
    ['garbage', () => writeFileSync(join(data, 'purser.db'), randomBytes(10_000))],
    ['another database', () => new Database(join(data, 'purser.db')).exec('CREATE TABLE x (y)').close()],
    ['a directory', () => mkdirSync(join(data, 'purser.db'))],
  ])('%s in the place of the store is exit 3, and stays as it was', async (_, make) => {
    make()
    const { code, finding } = await check(['--master-key-file', keyFile(randomBytes(32))])
    expect({ code, finding }).toEqual({ code: 3, finding: null })
    expect(readdirSync(data)).toEqual(['purser.db'])
  })
})

describe('with a store', () => {
  const key = randomBytes(32)
  let made: string
  beforeAll(async () => {
    made = mkdtempSync(join(tmpdir(), 'purser-check-store-'))
    const purser = await startPurser({ fastKdf: true, dataDirectory: made, masterKey: key })
    await purser.rpc('users.put', { userId: 'alice' })
    await purser.kill('SIGKILL')
    await purser.stop()
  })
  afterAll(() => rmSync(made, { recursive: true, force: true }))
  beforeEach(() => {
    for (const name of readdirSync(made)) copyFileSync(join(made, name), join(data, name))
  })

  test('after kill -9, when all of it lies in the log: told, and nothing is written', async () => {
    expect(statSync(join(data, 'purser.db-wal')).size).toBeGreaterThan(0)
    const before = snapshot()
    const temporary = join(directory, 'tmp')
    mkdirSync(temporary)
    const right = await check(['--master-key-file', keyFile(key)], { TMPDIR: temporary })
    expect(right).toMatchObject({ code: 0, stderr: '' })
    expect(right.finding).toMatchObject({
      keyId: keyIdOf(key),
      store: { keyIds: [keyIdOf(key)], from: 'file' },
      opens: true,
    })
    const wrong = await check(['--master-key-file', keyFile(randomBytes(32))])
    expect(wrong).toMatchObject({ code: 3, finding: { opens: false, store: { keyIds: [keyIdOf(key)] } } })
    expect(wrong.stderr).toContain('does not open the store')
    expect(snapshot()).toEqual(before)
    expect(readdirSync(temporary)).toEqual([])
  })

  test('from a directory that may only be read', async (context) => {
    if (process.getuid?.() === 0) return skipWith(context.skip, 'root writes everywhere')
    const file = keyFile(key)
    chmodSync(data, 0o500)
    expect(await check(['--master-key-file', file])).toMatchObject({ code: 0, finding: { opens: true } })
    chmodSync(data, 0o700)
  })

  test('a key id that fits and material that does not is damage, not success', async () => {
    const database = new Database(join(data, 'purser.db'))
    database.exec('UPDATE master_keys SET check_value = randomblob(32)')
    database.close()
    const { code, stderr } = await check(['--master-key-file', keyFile(key)])
    expect(code).toBe(3)
    expect(stderr).toContain('the key material of the store is damaged')
  })

  test('a newer schema is said to be one', async () => {
    const database = new Database(join(data, 'purser.db'))
    database.pragma('user_version = 99')
    database.close()
    const { code, stderr } = await check(['--master-key-file', keyFile(key)])
    expect(code).toBe(3)
    expect(stderr).toContain('the store has schema version 99')
  })

  test('of a large store the beginning is copied, and where that does not do all of it', async () => {
    const path = join(data, 'purser.db')
    const database = new Database(path)
    database.pragma('journal_mode = DELETE')
    database.exec('CREATE TABLE padding (x BLOB)')
    const insert = database.prepare('INSERT INTO padding VALUES (zeroblob(1000000))')
    for (let i = 0; i < 24; i++) insert.run()
    database.close()
    expect((await check(['--master-key-file', keyFile(key)])).finding).toMatchObject({ opens: true })
    const moved = new Database(path)
    moved.exec(
      `CREATE TABLE again AS SELECT * FROM master_keys; DROP TABLE master_keys; ALTER TABLE again RENAME TO master_keys`,
    )
    moved.close()
    expect((await check(['--master-key-file', keyFile(key)])).finding).toMatchObject({ opens: true })
    truncateSync(path, 8192)
    expect(await check(['--master-key-file', keyFile(key)])).toMatchObject({ code: 3 })
  })
})

describe('with a daemon that has it open', () => {
  const key = randomBytes(32)

  test('it is asked: by its socket, named or found, though another would answer elsewhere', async () => {
    await using purser = await startPurser({ fastKdf: true, dataDirectory: data, masterKey: key })
    await using other = await startPurser({ fastKdf: true })
    const before = readdirSync(data)
    for (const [file, right] of [
      [keyFile(key), true],
      [keyFile(randomBytes(32)), false],
    ] as const) {
      const { code, finding } = await check(['--master-key-file', file], { PURSER_SOCKET: purser.socketPath })
      expect({ code, finding }).toMatchObject({
        code: right ? 0 : 3,
        finding: { opens: right, store: { from: 'daemon', keyIds: [keyIdOf(key)] } },
      })
    }
    const named = await check(['--master-key-file', keyFile(key), '--socket', purser.socketPath])
    expect(named.finding).toMatchObject({ opens: true, store: { from: 'daemon' } })
    for (const socket of [other.socketPath, join(directory, 'none.sock')]) {
      const lost = await check(['--master-key-file', keyFile(key), '--socket', socket])
      expect(lost).toMatchObject({ code: 69, finding: null })
      expect(lost.stderr).toContain(`is in use by process ${purser.pid}, which does not answer`)
    }
    expect(readdirSync(data)).toEqual(before)
    expect(existsSync(join(data, 'purser.db-shm'))).toBe(false)
  })

  test('a daemon with an admin socket is asked on that', async () => {
    const adminSocket = join(directory, 'admin', 'purser.sock')
    mkdirSync(join(directory, 'admin'), { mode: 0o700 })
    const args = ['--admin-socket', adminSocket]
    await using purser = await startPurser({ fastKdf: true, dataDirectory: data, masterKey: key, args })
    const env = { PURSER_ADMIN_SOCKET: adminSocket, PURSER_SOCKET: purser.socketPath }
    const { finding } = await check(['--master-key-file', keyFile(key)], env)
    expect(finding).toMatchObject({ opens: true, store: { from: 'daemon' } })
  })
})
