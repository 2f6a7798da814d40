import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { methods } from '../../src/rpc/methods/index.ts'
import { keyIdOf } from '../../src/vault/keyring.ts'
import { apiSecret } from '../support/flow.ts'
import { type Answer, RawClient } from '../support/raw-client.ts'
import { cleanUp, keyFile, type Purserd, refusal, startReady, temporaryDirectory } from './purserd.ts'

// A start without the master key: by --sealed, with a store or without one.

cleanUp()

let home: string
let data: string
let base: string[]
const key = randomBytes(32)

beforeEach(() => {
  home = temporaryDirectory()
  data = join(home, 'data')
  base = ['--data-dir', data, '--socket', join(home, 's')]
})

const start = (args: readonly string[], env: Record<string, string> = {}): Promise<Purserd> =>
  startReady([...base, ...args], home, { env: { PURSER_KDF_MEMORY_KIB: '8', ...env } })

async function withClient<T>(use: (client: RawClient) => Promise<T>): Promise<T> {
  const client = new RawClient(join(home, 's'))
  try {
    return await use(client)
  } finally {
    client.close()
  }
}

const typeOf = ({ error }: Answer): string => error?.data.type ?? 'ok'
const store = (client: RawClient) =>
  client.call('credentials.store', { userId: 'u', apiKey: 'k', apiSecret: apiSecret(7) })

async function makeStore(): Promise<void> {
  const purserd = await start(['--master-key-file', keyFile(home, key)])
  await withClient(store)
  await purserd.stop()
}

describe('with a store', () => {
  test.each([
    ['--sealed', ['--sealed'], {}],
    ['PURSER_SEALED', [], { PURSER_SEALED: '1' }],
  ])('%s reads no source and waits for an unseal', async (_, args, env) => {
    await makeStore()
    // A source that fails, or holds another key, is not asked.
    const purserd = await start([...args, '--master-key-file', join(home, 'not-there')], env)
    expect(await purserd.ready()).toMatchObject({ sealed: true })
    await withClient(async (client) => {
      expect(typeOf(await client.call('credentials.retrieve', { userId: 'u' }))).toBe('Sealed')
      expect((await client.call('system.health')).result).toMatchObject({ status: 'sealed' })
      const fromSource = await client.call('system.unseal', {})
      expect(typeOf(fromSource)).toBe('InvalidParams')
      expect(fromSource.error!.message).toMatch(/^the key source failed: the key file \S+ does not exist/)
      const unsealed = await client.call('system.unseal', { masterKey: key.toString('base64') })
      expect(unsealed.result).toMatchObject({ sealed: false, keyId: keyIdOf(key) })
      expect((await client.call('credentials.retrieve', { userId: 'u' })).result).toMatchObject({
        apiSecret: apiSecret(7),
      })
      expect((await client.call('audit.verify')).result).toMatchObject({ ok: true, macChecked: true })
    })
    expect(await purserd.stop()).toMatchObject({ code: 0, stderr: '' })
  })

  test('without any source it waits too, and finds one that is put in its place', async () => {
    await makeStore()
    const purserd = await start(['--sealed'])
    await withClient(async (client) => {
      const status = (await client.call('system.status')).result
      expect(status.masterKey).toEqual({
        source: null,
        keyId: keyIdOf(key),
        keyIds: [keyIdOf(key)],
        epoch: 1,
      })
      const none = await client.call('system.unseal', {})
      expect(none.error).toMatchObject({
        message: 'no master key source is configured',
        data: { type: 'InvalidParams', issues: [{ path: 'masterKey' }] },
      })
      keyFile(data, key, 'master.key')
      expect((await client.call('system.unseal', {})).result).toMatchObject({ sealed: false })
    })
    await purserd.stop()
  })

  test('a key in the environment is not read, is wiped, and cannot be read later', async () => {
    await makeStore()
    const text = key.toString('hex')
    const purserd = await start(['--sealed'], { MASTER_ENCRYPTION_KEY: text })
    expect(readFileSync(`/proc/${purserd.pid}/environ`, 'latin1')).not.toContain(text)
    await withClient(async (client) => {
      const { error } = await client.call('system.unseal', {})
      expect(error).toMatchObject({ data: { type: 'InvalidParams' } })
      expect(error!.message).toMatch(/MASTER_ENCRYPTION_KEY is read once, at the start$/)
      expect(typeOf(await client.call('system.unseal', { masterKey: text }))).toBe('ok')
      // Nor after a seal.
      await client.call('system.seal')
      expect(typeOf(await client.call('system.unseal', {}))).toBe('InvalidParams')
    })
    await purserd.stop()
    // The seal is stored: not even a start reads it.
    const again = await start([], { MASTER_ENCRYPTION_KEY: text })
    expect(await again.ready()).toMatchObject({ sealed: true })
    await again.stop()
  })

  test('bad configuration is 78 all the same, a store that cannot be used 69', async () => {
    await makeStore()
    const env = { VAULT_ADDR: 'http://vault.example', VAULT_TOKEN: 'x' }
    expect(await refusal(78, [...base, '--sealed'], home, { env })).toContain('VAULT_ADDR is http to')
    writeFileSync(join(data, 'purser.db'), 'no database')
    expect(await refusal(69, [...base, '--sealed'], home)).toContain('is not a purser store')
  })
})

test('seals again and again without machine code made at run time, in memory that is locked where it may be', async () => {
  const purserd = await start(['--master-key-file', keyFile(home, key)], { PURSER_JITLESS: '1' })
  await withClient(async (client) => {
    await store(client)
    for (let round = 0; round < 10; round++) {
      expect(typeOf(await client.call('credentials.retrieve', { userId: 'u' }))).toBe('ok')
      expect(typeOf(await client.call('system.seal'))).toBe('ok')
      expect(typeOf(await client.call('system.unseal', {}))).toBe('ok')
    }
  })
  expect(purserd.stdout).not.toContain('--expose-gc')
  expect(await purserd.stop()).toMatchObject({ code: 0, stderr: '' })
})

const worksWithoutStore = /^(session\.hello|system\.(ping|health|status|metrics|unseal))$/

/** Params that are right for each method that needs some. */
const params: Readonly<Record<string, object>> = {
  ...Object.fromEntries(
    ['get', 'revoke'].map((name) => [`credentials.${name}`, { userId: 'u', credentialId: 1 }]),
  ),
  'credentials.store': { userId: 'u', apiKey: 'k', apiSecret: apiSecret(7) },
  'credentials.update': { userId: 'u', credentialId: 1, name: 'n' },
  'credentials.replace': { userId: 'u', credentialId: 1, apiKey: 'k', apiSecret: apiSecret(7) },
  'credentials.expiring': { withinDays: 3 },
  'spend.capture': { reservationId: 'r1' },
  'spend.void': { reservationId: 'r1' },
  'positions.close': { userId: 'u', positionId: 'p1' },
  'system.freeze': { reason: 'x' },
  'users.freeze': { userId: 'u', reason: 'x' },
}
const paramsOf = (method: string): object => {
  if (params[method] !== undefined) return params[method]
  if (/^spend\.(check|reserve|record)$/.test(method)) return { userId: 'u', amountUsd: '1' }
  return /^(users\.(put|get|unfreeze|resetDecryptions)|credentials\.(retrieve|rotate)|spend\.status|(reservations|positions)\.list)$/.test(
    method,
  )
    ? { userId: 'u' }
    : {}
}

describe('without a store', () => {
  test('all but what says how it is, and the unseal, is Sealed; a stop leaves nothing behind', async () => {
    const purserd = await start(['--sealed'])
    await withClient(async (client) => {
      for (const { name } of methods) {
        const type = typeOf(await client.call(name, paramsOf(name)))
        // What each of those without a schema of its own needs is not listed above: it says so first.
        if (type === 'InvalidParams' && !(name in params)) continue
        const expected =
          name === 'system.unseal' ? 'InvalidParams' : worksWithoutStore.test(name) ? 'ok' : 'Sealed'
        expect(`${name} ${type}`).toBe(`${name} ${expected}`)
      }
      expect((await client.call('system.health')).result).toMatchObject({
        status: 'sealed',
        checks: { store: 'there is none yet', masterKey: 'sealed' },
      })
      expect((await client.call('system.status')).result).toMatchObject({
        sealed: true,
        store: null,
        masterKey: { source: null, keyId: null, epoch: null },
        counts: { users: 0, credentials: 0, auditEntries: 0 },
      })
      const missing = await client.call('system.unseal', { masterKey: key.toString('hex') })
      expect(missing.error).toMatchObject({ code: 2001, data: { type: 'NotFound', resource: 'store' } })
    })
    expect(await purserd.stop()).toMatchObject({ code: 0, stderr: '' })
    expect(readdirSync(data)).toEqual([])
  })

  test('`create` makes the store, the same as a start with that key makes', async () => {
    const purserd = await start(['--sealed'])
    await withClient(async (client) => {
      const made = await client.call('system.unseal', { masterKey: key.toString('hex'), create: true })
      expect(made.result).toEqual({ sealed: false, keyId: keyIdOf(key), epoch: 1, storeCreated: true })
      expect(typeOf(await store(client))).toBe('ok')
      expect((await client.call('system.status')).result).toMatchObject({
        store: { path: join(data, 'purser.db'), schemaVersion: expect.any(Number) },
        counts: { users: 1, credentials: 1 },
      })
      const { entries } = (await client.call('audit.query')).result
      expect(entries.map(({ action }: { action: string }) => action)).toEqual([
        'api_key_stored',
        'system_unsealed',
        'daemon_started',
      ])
      expect(entries.at(-1).details).toMatchObject({ storeCreated: true, sealed: true })
      expect((await client.call('audit.verify')).result).toMatchObject({ ok: true, macChecked: true })
      expect(typeOf(await client.call('backup.create', { path: join(home, 'backup.db') }))).toBe('ok')
      // Once is enough.
      const again = await client.call('system.unseal', { masterKey: key.toString('hex'), create: true })
      expect(again.error!.data).toMatchObject({ type: 'Conflict', resource: 'store' })
    })
    await purserd.stop('SIGKILL')
    expect(readdirSync(data).filter((name) => !name.startsWith('purser.db'))).toEqual([])
    const plain = await start(['--master-key-file', keyFile(home, key)])
    await withClient(async (client) => {
      expect((await client.call('credentials.retrieve', { userId: 'u' })).result).toMatchObject({
        apiSecret: apiSecret(7),
      })
      expect((await client.call('audit.verify')).result).toMatchObject({ ok: true, macChecked: true })
    })
    await plain.stop()
  })

  test('of two that create at once one makes it', async () => {
    const purserd = await start(['--sealed'])
    const other = randomBytes(32)
    await withClient(async (client) => {
      const create = (masterKey: Buffer) =>
        client.call('system.unseal', { masterKey: masterKey.toString('hex'), create: true })
      const types = (await Promise.all([create(key), create(other)])).map(typeOf)
      expect(types).toEqual(['ok', 'Conflict'])
      expect((await client.call('system.status')).result.masterKey.keyId).toBe(keyIdOf(key))
    })
    await purserd.stop()
  })

  const inTheWay: [string, () => void][] = [
    ['a file of something else', () => writeFileSync(join(data, 'purser.db'), 'letters')],
    ['an empty file', () => writeFileSync(join(data, 'purser.db'), '')],
    ['a directory', () => mkdirSync(join(data, 'purser.db'))],
    ['a link to nowhere', () => symlinkSync(join(home, 'nowhere'), join(data, 'purser.db'))],
  ]
  test.each(inTheWay)('%s of that name is Conflict, untouched', async (_, put) => {
    const purserd = await start(['--sealed'])
    put()
    const before = look()
    await withClient(async (client) => {
      const given = { masterKey: key.toString('hex') }
      const { error } = await client.call('system.unseal', { ...given, create: true })
      expect(error).toMatchObject({ code: 2002, data: { type: 'Conflict', resource: 'store', field: null } })
      expect(typeOf(await client.call('system.unseal', given))).toBe('NotFound')
      expect((await client.call('system.health')).result).toMatchObject({ status: 'sealed' })
    })
    expect(look()).toEqual(before)
    expect(existsSync(join(home, 'nowhere'))).toBe(false)
    await purserd.stop()
  })

  function look(): unknown {
    const path = join(data, 'purser.db')
    try {
      return createHash('sha256').update(readFileSync(path)).digest('hex')
    } catch (error) {
      return (error as NodeJS.ErrnoException).code
    }
  }

  test('a log without its store is 69, as for any start', async () => {
    mkdirSync(data, { mode: 0o700 })
    writeFileSync(join(data, 'purser.db-wal'), 'x')
    expect(await refusal(69, [...base, '--sealed'], home)).toMatch(
      /purser.db is missing, but \S+-wal is there/,
    )
  })
})
