import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { methods } from '../../src/rpc/methods/index.ts'
import { apiSecret } from '../support/flow.ts'
import { Story, sample, type WireError } from './story.ts'

// A seal takes the master key away until an unseal, over restarts; what needs no key goes on.

let story: Story
beforeAll(async () => {
  story = await Story.begin()
})
afterAll(() => story[Symbol.asyncDispose]())

const seal = () => story.ok('system.seal')
const unseal = (params: object = {}) => story.ok('system.unseal', params)
const sealedOf = async () => (await story.ok('session.hello')).sealed
const gauge = async () => /^purser_sealed (\d)$/m.exec((await story.ok('system.metrics')).text)?.[1]

/** Params that each method takes, of a user who has a credential. */
const params: Readonly<Record<string, object>> = {
  'users.put': { userId: 'alice' },
  'credentials.store': sample('alice', 200),
  'credentials.retrieve': { userId: 'alice' },
  'credentials.update': { userId: 'alice', credentialId: 1, name: 'n' },
  'credentials.replace': { userId: 'alice', credentialId: 1, apiKey: 'k', apiSecret: apiSecret(3) },
  'credentials.rotate': { userId: 'alice' },
  'spend.check': { userId: 'alice', amountUsd: '1' },
  'spend.reserve': { userId: 'alice', amountUsd: '1' },
  'clients.add': { name: 'bot', uid: 4_000_000, users: '*', scopes: ['spend'] },
  'clients.update': { clientId: 1, scopes: ['spend'] },
  'master.rotate': { newMasterKey: 'ab'.repeat(32) },
  'master.reseal': {},
}

/** What the refusal of each is audited as; a check is not. */
const actions: Readonly<Record<string, string | null>> = {
  'users.put': 'user_put',
  'credentials.store': 'api_key_stored',
  'credentials.retrieve': 'api_key_retrieved',
  'credentials.update': 'api_key_updated',
  'credentials.replace': 'api_key_replaced',
  'credentials.rotate': 'api_key_rotated',
  'spend.check': null,
  'spend.reserve': 'spend_rejected',
  'backup.create': 'backup_created',
  'clients.add': 'client_added',
  'clients.update': 'client_updated',
  'master.rotate': 'master_rotated',
  'master.reseal': 'master_resealed',
}

describe('a sealed daemon', () => {
  beforeAll(async () => {
    await story.store('alice', 1)
    await story.ok('credentials.retrieve', { userId: 'alice' })
    for (const reservation of ['1', '2', '3'])
      await story.ok('spend.reserve', { userId: 'alice', amountUsd: reservation })
    expect(await seal()).toEqual({ sealed: true, since: expect.stringMatching(/^\d{4}-.*Z$/) })
  })
  afterAll(async () => {
    await unseal()
    await story.chainHolds()
  })

  test('says so', async () => {
    expect(await story.ok('system.health')).toMatchObject({
      status: 'sealed',
      checks: { masterKey: 'sealed', store: 'ok' },
    })
    expect(await story.ok('system.status')).toMatchObject({
      sealed: true,
      sealedAt: expect.any(String),
      cache: { entries: 0 },
      // Which key it waits for, and where it may be read again.
      masterKey: { keyId: expect.stringMatching(/^[0-9a-f]{16}$/), epoch: 1, source: expect.any(String) },
    })
    expect(await sealedOf()).toBe(true)
    expect(await gauge()).toBe('1')
    expect(await story.ok('system.ping')).toMatchObject({ pong: true })
  })

  test.each(methods.filter(({ whileSealed }) => whileSealed === 'refused').map(({ name }) => name))(
    '%s is Sealed, and audited as what it is',
    async (method) => {
      let error: WireError | null = null
      const told = await story.audited(async () => {
        error = await story.refused('Sealed', method, params[method] ?? {})
      })
      expect(error).toMatchObject({ code: 1004, data: { retryable: true, hint: expect.any(String) } })
      const action = actions[method]
      if (action === null) expect(told).toEqual([])
      else expect(told).toMatchObject([{ action, outcome: 'denied', details: { error: 'Sealed' } }])
    },
  )

  test('comes behind InvalidParams and before Frozen and NotFound', async () => {
    await story.refused('InvalidParams', 'credentials.store', { ...sample('alice', 1), apiSecret: '!' })
    await story.refused('InvalidParams', 'credentials.retrieve', {})
    await story.refused('Sealed', 'credentials.retrieve', { userId: 'nobody' })
    await story.refused('Sealed', 'spend.reserve', { userId: 'nobody', amountUsd: '1' })
    await story.ok('users.freeze', { userId: 'alice', reason: 'x' })
    await story.refused('Sealed', 'credentials.retrieve', { userId: 'alice' })
    await story.refused('Sealed', 'spend.check', { userId: 'alice', amountUsd: '1' })
    await story.ok('users.unfreeze', { userId: 'alice' })
  })

  test('money that has moved is still counted', async () => {
    expect(await story.ok('spend.capture', { reservationId: 'r1', tradeId: 't1' })).toMatchObject({
      amountUsd: '1.00',
    })
    expect(await story.ok('spend.void', { reservationId: 'r2' })).toEqual({ releasedUsd: '2.00' })
    expect(await story.ok('spend.record', { userId: 'alice', amountUsd: '5', tradeId: 't2' })).toMatchObject({
      overLimit: false,
    })
    expect(await story.ok('positions.close', { userId: 'alice', tradeId: 't2' })).toMatchObject({
      closedUsd: '5.00',
    })
    expect(await story.ok('spend.status', { userId: 'alice' })).toMatchObject({
      exposure: { openUsd: '1.00', reservedUsd: '3.00' },
    })
    expect((await story.ok('reservations.list', { userId: 'alice' })).reservations).toHaveLength(1)
    expect((await story.ok('positions.list', { userId: 'alice' })).positions).toHaveLength(2)
    expect(await story.ok('spend.usage')).toMatchObject({ usage: [] })
  })

  test('access can still be taken away, and all of it read', async () => {
    const { entries } = await story.ok('audit.query', { limit: 5 })
    expect(entries).toHaveLength(5)
    await story.ok('system.freeze', { reason: 'stolen' })
    expect(await story.ok('system.health')).toMatchObject({ checks: { freeze: 'frozen: stolen' } })
    await story.ok('system.unfreeze')
    expect((await story.ok('users.list')).users).toHaveLength(1)
    expect(await story.ok('users.resetDecryptions', { userId: 'alice' })).toEqual({ cleared: 1 })
    expect(await story.ok('credentials.list', {})).toMatchObject({ credentials: [{ status: 'active' }] })
    expect(await story.ok('credentials.expiring', { withinDays: 5 })).toMatchObject({ credentials: [] })
    const one = { userId: 'alice', credentialId: 1 }
    expect(await story.ok('credentials.revoke', one)).toMatchObject({ status: 'revoked' })
    expect(await story.ok('credentials.get', one)).toMatchObject({ status: 'revoked' })
    // Those that were Sealed.
    expect((await story.ok('audit.failures', { over: 1 })).users).toEqual([{ userId: 'alice', failures: 2 }])
    expect((await story.ok('rpc.discover')).methods.length).toBeGreaterThan(10)
    // Without a key MACs are not looked at.
    expect(await story.ok('audit.verify')).toMatchObject({ ok: true, macChecked: false })
  })
})

describe('an unseal', () => {
  beforeAll(async () => {
    await story.store('bob', 2)
  })

  test('takes the key in every spelling', async () => {
    const key = Buffer.from(story.purser.masterKey!, 'base64')
    const { keyId } = (await story.ok('system.status')).masterKey
    for (const masterKey of [
      key.toString('base64'),
      key.toString('base64url'),
      key.toString('hex'),
      ` ${key.toString('hex').toUpperCase()}\n`,
    ]) {
      await seal()
      expect(await unseal({ masterKey })).toEqual({ sealed: false, keyId, epoch: 1, storeCreated: false })
      expect(await story.ok('credentials.retrieve', { userId: 'bob' })).toMatchObject({
        apiSecret: apiSecret(2),
      })
    }
    expect(await story.ok('system.health')).toMatchObject({ status: 'ok' })
    expect(await story.ok('system.status')).toMatchObject({ sealed: false, sealedAt: null })
    expect([await sealedOf(), await gauge()]).toEqual([false, '0'])
  })

  test('without a key reads the configured source again', async () => {
    await seal()
    const told = await story.audited(async () => {
      expect(await unseal()).toMatchObject({ sealed: false })
    })
    expect(told).toMatchObject([
      { action: 'system_unsealed', outcome: 'ok', details: { keyFrom: 'source', again: false } },
    ])
  })

  test('a key that is none is InvalidParams, and no value is told', async () => {
    await seal()
    for (const masterKey of ['x', 'ab'.repeat(31), `${'ab'.repeat(32)}0`, 'not-a-key-'.repeat(5)]) {
      const told = await story.audited(async () => {
        const error = await story.refused('InvalidParams', 'system.unseal', { masterKey })
        expect(error.data.issues).toEqual([{ path: 'masterKey', message: expect.any(String) }])
        if (masterKey.length > 5) expect(JSON.stringify(error)).not.toContain(masterKey)
      })
      expect(told).toEqual([])
    }
    expect(await sealedOf()).toBe(true)
  })

  test('with `create`, where there is a store, is Conflict and leaves it sealed', async () => {
    const masterKey = story.purser.masterKey!
    for (const params of [{ create: true }, { create: true, masterKey }]) {
      const error = await story.refused('Conflict', 'system.unseal', params)
      expect(error.data).toMatchObject({ resource: 'store', field: null })
    }
    expect(await sealedOf()).toBe(true)
  })

  test('a wrong key is answered after a second, one at a time, audited, and changes nothing', async () => {
    const wrong = { masterKey: Buffer.alloc(32, 1).toString('hex') }
    const startedAtMs = performance.now()
    const told = await story.audited(async () => {
      const clients = [story.connect(), story.connect()]
      const errors = await Promise.all(
        clients.map((client) => story.refused('WrongMasterKey', 'system.unseal', wrong, client)),
      )
      for (const error of errors)
        expect(error).toMatchObject({ code: 1006, data: { retryable: true, retryAfterMs: 1000 } })
      // Timers of Node may fire a millisecond early.
      expect(performance.now() - startedAtMs).toBeGreaterThan(1990)
    })
    expect(told).toHaveLength(2)
    for (const entry of told)
      expect(entry).toMatchObject({
        action: 'system_unsealed',
        outcome: 'denied',
        details: { error: 'WrongMasterKey' },
      })
    expect(await sealedOf()).toBe(true)
    await unseal()
    await story.chainHolds()
  })

  test('of a daemon that is not sealed answers as if it had been, also to a wrong key', async () => {
    const { keyId } = (await story.ok('system.status')).masterKey
    const answer = { sealed: false, keyId, epoch: 1, storeCreated: false }
    const told = await story.audited(async () => {
      expect(await unseal({ masterKey: story.purser.masterKey })).toEqual(answer)
      expect(await unseal()).toEqual(answer)
      await story.refused('WrongMasterKey', 'system.unseal', {
        masterKey: Buffer.alloc(32, 1).toString('hex'),
      })
    })
    expect(told.map(({ outcome, details }) => [outcome, details['again'] ?? details['error']])).toEqual([
      ['ok', true],
      ['ok', true],
      ['denied', 'WrongMasterKey'],
    ])
    expect(await story.ok('credentials.retrieve', { userId: 'bob' })).toMatchObject({ apiKey: 'key-2' })
  })
})

describe('a seal', () => {
  test('again is ok, and stays from when it was', async () => {
    const { since } = await seal()
    const told = await story.audited(async () => expect(await seal()).toEqual({ sealed: true, since }))
    expect(told).toMatchObject([{ action: 'system_sealed', outcome: 'ok', details: { again: true } }])
  })

  test('outlives a restart and a kill, and an unseal ends it for good', async () => {
    await story.restart()
    expect(story.purser.ready).toMatchObject({ sealed: true })
    await story.refused('Sealed', 'credentials.retrieve', { userId: 'bob' })
    await story.purser.kill('SIGKILL')
    await story.purser.restart()
    expect(story.purser.ready).toMatchObject({ sealed: true })
    await story.refused('Sealed', 'credentials.retrieve', { userId: 'bob' })
    await unseal()
    await story.purser.kill('SIGKILL')
    await story.purser.restart()
    expect(story.purser.ready).toMatchObject({ sealed: false })
    expect(await story.ok('credentials.retrieve', { userId: 'bob' })).toMatchObject({ apiKey: 'key-2' })
    await story.chainHolds()
  })

  test('a stop while sealed is in order', async () => {
    await seal()
    const { code } = await story.purser.kill('SIGTERM')
    expect(code).toBe(0)
    await story.purser.restart()
    expect((await story.entries()).at(-2)).toMatchObject({ action: 'daemon_stopped' })
    await unseal()
  })
})
