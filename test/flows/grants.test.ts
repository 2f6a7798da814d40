import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RawClient } from '../support/raw-client.ts'
import { type Given, tokenClient } from './clients.ts'
import { Story, sample } from './story.ts'

let story: Story
/** Credentials: two of alice, the first her primary; one of bob; carol has none. */
let ids: { primary: number; second: number; bobs: number }

const soon = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString()

beforeAll(async () => {
  story = await Story.begin()
  ids = {
    primary: await story.store('alice', 1, { dailySpendLimitUsd: '50', expiresAt: soon(5) }),
    second: await story.store('alice', 2, { dailySpendLimitUsd: '50', expiresAt: soon(5) }),
    bobs: await story.store('bob', 3, { expiresAt: soon(6) }),
  }
  await story.ok('users.put', { userId: 'carol' })
})
afterAll(() => story[Symbol.asyncDispose]())

const clientOf = async (given: Given) => (await tokenClient(story, given)).client
const every = ['credentials:read', 'credentials:write', 'spend', 'settle', 'audit:read', 'freeze']

describe('a grant of single users', () => {
  let client: RawClient
  beforeAll(async () => {
    client = await clientOf({ users: ['alice', 'new', 'newer'], scopes: every })
  })

  test('a user outside it is Forbidden whether there is one or not, in the same bytes', async () => {
    const calls: [string, object][] = [
      ['credentials.retrieve', {}],
      ['credentials.retrieve', { credentialId: ids.bobs }],
      ['credentials.get', { credentialId: 1 }],
      ['credentials.list', {}],
      ['credentials.store', sample('', 5)],
      ['spend.status', {}],
      ['spend.reserve', { amountUsd: '1' }],
      ['reservations.list', {}],
      ['positions.close', { positionId: 'p1' }],
      ['users.freeze', { reason: 'x' }],
      ['audit.query', {}],
    ]
    for (const [method, params] of calls) {
      const told = new Set<string>()
      for (const userId of ['bob', 'carol', 'nobody', 'ali', 'ALICE', 7]) {
        const { error } = await client.call(method, { ...params, userId })
        expect(error!.data, method).toMatchObject({ type: 'Forbidden', scope: null })
        told.add(JSON.stringify(error))
      }
      expect([method, told.size]).toEqual([method, 1])
    }
  })

  test('within a user an id that is another’s is NotFound, in the same bytes as one that never was', async () => {
    for (const method of ['credentials.retrieve', 'credentials.get', 'credentials.revoke']) {
      const answers = await Promise.all(
        [ids.bobs, 9999].map((credentialId) => client.call(method, { userId: 'alice', credentialId })),
      )
      expect(answers[0]!.error!.data).toMatchObject({ type: 'NotFound', resource: 'credential' })
      expect(JSON.stringify(answers[0]!.error)).toBe(JSON.stringify(answers[1]!.error))
    }
  })

  test('so is a reservation of a user outside it, and what it is about does not change', async () => {
    const { reservationId } = await story.ok('spend.reserve', { userId: 'bob', amountUsd: '3' })
    for (const [method, params] of [
      ['spend.capture', {}],
      ['spend.capture', { amountUsd: '1', tradeId: 't-forbidden', final: false }],
      ['spend.void', {}],
    ] as const) {
      const answers: string[] = []
      for (const id of [reservationId, 'r99999', 'nonsense']) {
        const { error } = await client.call(method, { ...params, reservationId: id })
        expect(error!.data).toMatchObject({ type: 'NotFound', resource: 'reservation' })
        answers.push(JSON.stringify(error))
      }
      expect(new Set(answers).size).toBe(1)
    }
    const { reservations } = await story.ok('reservations.list', { userId: 'bob' })
    expect(reservations).toMatchObject([{ reservationId, state: 'held', amountUsd: '3.00' }])
    const all = await clientOf({ users: '*' })
    expect(await story.ok('spend.void', { reservationId }, all)).toEqual({ releasedUsd: '3.00' })
  })

  test('lists show what is granted', async () => {
    const shown = async (method: string, params: object, who: RawClient) =>
      (await story.ok(method, params, who)).credentials.map(
        ({ credentialId }: { credentialId: number }) => credentialId,
      )
    const all = await clientOf({ users: '*' })
    for (const [method, params] of [
      ['credentials.list', {}],
      ['credentials.expiring', { withinDays: 3650 }],
    ] as const) {
      expect(await shown(method, params, client)).toEqual([ids.primary, ids.second])
      expect(await shown(method, params, all)).toEqual([ids.primary, ids.second, ids.bobs])
      const one = await clientOf({ users: '*', credentials: [ids.second, ids.bobs] })
      expect(await shown(method, params, one)).toEqual([ids.second, ids.bobs])
      const none = await clientOf({ users: ['carol'] })
      expect(await shown(method, params, none)).toEqual([])
    }
  })

  test('the audit log shows entries of these users and no others', async () => {
    await story.ok('users.freeze', { userId: 'bob', reason: 'x' })
    await story.ok('users.unfreeze', { userId: 'bob' })
    const { entries } = await story.ok('audit.query', { limit: 1000 }, client)
    expect(new Set(entries.map(({ userId }: { userId: string }) => userId))).toEqual(new Set(['alice']))
    const all = await clientOf({ users: '*', scopes: ['audit:read'] })
    const told = (await story.ok('audit.query', { limit: 1000 }, all)).entries
    expect(new Set(told.map(({ userId }: { userId: string }) => userId))).toContain('bob')
    expect(told.map(({ action }: { action: string }) => action)).toContain('daemon_started')
  })

  test('a user it names and that is not there yet is made by a store, and by nobody under *', async () => {
    const all = await clientOf({ users: '*', scopes: ['credentials:write', 'credentials:read'] })
    const unknown = await story.refused('NotFound', 'credentials.store', sample('new', 30), all)
    expect(unknown.data).toMatchObject({ resource: 'user' })
    await story.refused('NotFound', 'credentials.retrieve', { userId: 'new' }, client)
    await story.ok('credentials.store', sample('new', 30), client)
    expect(await story.ok('users.get', { userId: 'new' })).toMatchObject({ tier: 'free' })
    await story.ok('credentials.store', sample('new', 31), all)
  })

  test('the errors come in the order of the contract', async () => {
    const write = await clientOf({ users: ['alice'], scopes: ['credentials:write'] })
    const read = await clientOf({ users: ['alice'], scopes: ['credentials:read'] })
    await story.refused('Forbidden', 'credentials.store', { userId: 5.5 }, read)
    await story.refused('InvalidParams', 'credentials.store', { userId: 'bob' }, write)
    await story.refused('Forbidden', 'credentials.store', sample('bob', 1), write)
    await story.ok('users.freeze', { userId: 'alice', reason: 'x' })
    await story.refused('Forbidden', 'credentials.retrieve', { userId: 'bob' }, read)
    await story.refused('Frozen', 'credentials.retrieve', { userId: 'alice', credentialId: 999 }, read)
    await story.ok('users.unfreeze', { userId: 'alice' })
  })
})

describe('a grant of single credentials', () => {
  let client: RawClient
  beforeAll(async () => {
    client = await clientOf({ users: ['alice'], credentials: [ids.second, ids.bobs], scopes: every })
  })

  const missing = async (method: string, params: object) => {
    const { data } = await story.refused('NotFound', method, { userId: 'alice', ...params }, client)
    expect([method, data.resource]).toEqual([method, 'credential'])
  }

  test('every other is NotFound, the primary too where no id is given', async () => {
    const amountUsd = '1'
    for (const credentialId of [ids.primary, undefined]) {
      await missing('credentials.retrieve', { credentialId })
      await missing('spend.check', { credentialId, amountUsd })
      await missing('spend.reserve', { credentialId, amountUsd })
      await missing('spend.record', { credentialId, amountUsd })
      await missing('spend.status', { credentialId })
    }
    for (const credentialId of [ids.primary, ids.bobs]) {
      await missing('credentials.get', { credentialId })
      await missing('credentials.update', { credentialId, name: 'mine' })
      await missing('credentials.update', { credentialId, privateKeyPolicy: 'sign-only' })
      await missing('credentials.revoke', { credentialId })
      await missing('credentials.replace', { ...sample('alice', 60), credentialId })
      await missing('credentials.rotate', { credentialId })
    }
    const one = { userId: 'alice', credentialId: ids.second }
    expect(await story.ok('credentials.retrieve', one, client)).toMatchObject({ apiKey: 'key-2' })
    await story.ok('spend.check', { ...one, amountUsd }, client)
    await story.ok('credentials.update', { ...one, name: 'mine' }, client)
  })

  test('lists hold these only', async () => {
    const held = await story.ok('spend.reserve', { userId: 'alice', amountUsd: '1' })
    const own = { userId: 'alice', credentialId: ids.second, amountUsd: '1' }
    const mine = await story.ok('spend.reserve', own, client)
    await story.ok('spend.record', { userId: 'alice', amountUsd: '1', tradeId: 'of the primary' })
    await story.ok('spend.record', { ...own, tradeId: 'of the second' }, client)
    const { reservations } = await story.ok('reservations.list', { userId: 'alice' }, client)
    expect(reservations).toMatchObject([{ reservationId: mine.reservationId }])
    const { positions } = await story.ok('positions.list', { userId: 'alice' }, client)
    expect(positions).toMatchObject([{ tradeId: 'of the second', credentialId: ids.second }])
    for (const params of [{ userId: 'alice' }, {}]) {
      const { credentials } = await story.ok('credentials.list', params, client)
      expect(credentials).toMatchObject([{ credentialId: ids.second }])
    }
    const { entries } = await story.ok('audit.query', { userId: 'alice', limit: 1000 }, client)
    const told = new Set(entries.map((entry: { credentialId: number | null }) => entry.credentialId))
    // That of bob is on the list: what was asked of it in alice's name is told, what others did is not.
    expect(told).toEqual(new Set([ids.second, ids.bobs]))
    // What is held of the primary is as if it never was.
    await story.refused('NotFound', 'spend.void', { reservationId: held.reservationId }, client)
    await story.ok('spend.void', { reservationId: mine.reservationId }, client)
  })

  test('a page is full though others lie between', async () => {
    const other = await clientOf({ users: ['page'], scopes: every })
    const stored: number[] = []
    for (let n = 0; n < 6; n++) stored.push(await story.store('page', 80 + n))
    for (const credentialId of stored)
      for (const n of [1, 2]) {
        const tradeId = `page-${credentialId}-${n}`
        await story.ok('spend.record', { userId: 'page', credentialId, amountUsd: '1', tradeId }, other)
        await story.ok(
          'spend.reserve',
          { userId: 'page', credentialId, amountUsd: '1', ttlSeconds: 600 },
          other,
        )
      }
    const listed = [stored[0]!, stored[3]!, stored[5]!]
    const some = await clientOf({ users: ['page'], credentials: listed, scopes: every })
    for (const [method, plural] of [
      ['positions.list', 'positions'],
      ['reservations.list', 'reservations'],
    ] as const) {
      const seen: number[] = []
      for (let cursor: string | null = null, pages = 0; ; pages++) {
        const params = { userId: 'page', limit: 2, ...(cursor === null ? {} : { cursor }) }
        const page = await story.ok(method, params, some)
        seen.push(...page[plural].map((row: { credentialId: number }) => row.credentialId))
        cursor = page.nextCursor
        if (cursor === null) break
        expect(page[plural]).toHaveLength(2)
        expect(pages).toBeLessThan(10)
      }
      expect(seen).toEqual(listed.flatMap((id) => [id, id]))
    }
  })

  test('a rotation without an id means these', async () => {
    const told = await story.audited(async () => {
      expect(await story.ok('credentials.rotate', { userId: 'alice' }, client)).toEqual({ rotated: 1 })
    })
    expect(told.map(({ action, credentialId }) => [action, credentialId])).toEqual([
      ['api_key_rotated', ids.second],
    ])
    const none = await clientOf({ users: ['alice'], credentials: [ids.bobs], scopes: every })
    await story.refused('NotFound', 'credentials.rotate', { userId: 'alice' }, none)
  })

  test('store, isPrimary and closing a position of another are Forbidden', async () => {
    await story.refused('Forbidden', 'credentials.store', sample('alice', 40), client)
    for (const credentialId of [ids.second, ids.primary, 999])
      await story.refused(
        'Forbidden',
        'credentials.update',
        { userId: 'alice', credentialId, isPrimary: true },
        client,
      )
    const other = { userId: 'alice', tradeId: 'of the primary' }
    await story.refused('Forbidden', 'positions.close', other, client)
    await story.refused('NotFound', 'positions.close', { userId: 'alice', tradeId: 'never' }, client)
    await story.ok('positions.close', { userId: 'alice', tradeId: 'of the second' }, client)
    expect(await story.ok('positions.close', other)).toMatchObject({ closedUsd: '1.00' })
  })
})

describe('credentials:write', () => {
  test('tightens limits and expiries and raises none', async () => {
    const client = await clientOf({ users: ['alice'], scopes: ['credentials:write'] })
    const credentialId = await story.store('alice', 50)
    const one = { userId: 'alice', credentialId }
    const update = (params: object) => story.ok('credentials.update', { ...one, ...params }, client)
    const refused = async (params: object) => {
      const { data } = await story.refused('Forbidden', 'credentials.update', { ...one, ...params }, client)
      expect(data).toMatchObject({ scope: 'admin' })
    }
    // Nothing is there yet: null clears nothing, and any limit is tighter.
    await update({ dailySpendLimitUsd: null, expiresAt: null })
    await update({ dailySpendLimitUsd: '10', expiresAt: '2090-01-01T00:00:00Z' })
    await update({ dailySpendLimitUsd: '10', expiresAt: '2090-01-01T00:00:00Z' })
    await refused({ dailySpendLimitUsd: '10.000001' })
    await refused({ dailySpendLimitUsd: null })
    await refused({ expiresAt: '2090-01-01T00:00:00.001Z' })
    await refused({ expiresAt: null })
    await refused({ dailySpendLimitUsd: '5', expiresAt: null })
    await refused({ privateKeyPolicy: 'sign-only', dailySpendLimitUsd: '11' })
    await refused({ name: 'not even this', dailySpendLimitUsd: '11' })
    expect(await update({ dailySpendLimitUsd: '9.999999' })).toMatchObject({
      dailySpendLimitUsd: '9.999999',
      name: null,
      expiresAt: '2090-01-01T00:00:00.000Z',
      privateKeyPolicy: 'exportable',
    })
    await update({ expiresAt: '2020-01-01T00:00:00Z' })
    await refused({ expiresAt: '2090-01-01T00:00:00Z' })
    // An admin may.
    await story.ok('credentials.update', { ...one, dailySpendLimitUsd: null, expiresAt: null })
    // What is not there is told before that.
    await story.refused(
      'NotFound',
      'credentials.update',
      { userId: 'alice', credentialId: 999, expiresAt: null },
      client,
    )
  })
})

describe('signed reservations', () => {
  /** Makes every hold of alice one that a signature stands behind, as signing will. */
  const sign = async () => {
    await story.restart(() => {
      const database = new Database(join(story.purser.dataDirectory, 'purser.db'))
      database.prepare('UPDATE reservations SET signed = 1, expires_at_ms = NULL').run()
      database.close()
    })
  }
  const alice = { userId: 'alice', amountUsd: '2' }

  test('scope spend alone frees nothing of them, settle and a cooperative user’s bot do', async () => {
    const holds: string[] = []
    for (let n = 0; n < 6; n++)
      holds.push((await story.ok('spend.reserve', { ...alice, ttlSeconds: 86_400 })).reservationId)
    await sign()
    const [spender, settler] = [await clientOf({ scopes: ['spend'] }), await clientOf({ scopes: ['settle'] })]
    const refused = async (method: string, params: object) => {
      const { data } = await story.refused('Forbidden', method, params, spender)
      expect(data).toMatchObject({ scope: 'settle' })
    }
    const [first, second, third, fourth, fifth, sixth] = holds
    await refused('spend.void', { reservationId: first })
    await refused('spend.capture', { reservationId: first, amountUsd: '1' })
    // The whole, and a part that keeps the rest held, free nothing.
    await story.ok(
      'spend.capture',
      { reservationId: first, amountUsd: '1', final: false, tradeId: 'signed-1' },
      spender,
    )
    await story.ok('spend.capture', { reservationId: second }, spender)
    await refused('spend.void', { reservationId: first })
    await refused('positions.close', { userId: 'alice', tradeId: 'signed-1' })
    expect(
      await story.ok('positions.close', { userId: 'alice', tradeId: 'signed-1' }, settler),
    ).toMatchObject({
      closedUsd: '1.00',
    })
    expect(await story.ok('spend.void', { reservationId: first }, settler)).toEqual({ releasedUsd: '1.00' })
    expect(await story.ok('spend.capture', { reservationId: third, amountUsd: '1' }, settler)).toMatchObject({
      releasedUsd: '1.00',
    })
    // An admin has every scope.
    await story.ok('spend.void', { reservationId: fourth })
    await story.ok('users.put', { userId: 'alice', settlement: 'cooperative' })
    expect(await story.ok('spend.void', { reservationId: fifth }, spender)).toEqual({ releasedUsd: '2.00' })
    await story.ok('spend.capture', { reservationId: sixth, amountUsd: '1' }, spender)
    await story.ok('users.put', { userId: 'alice', settlement: 'operator' })
    await story.chainHolds()
  })

  test('settle reserves nothing', async () => {
    const settler = await clientOf({ scopes: ['settle'] })
    await story.refused('Forbidden', 'spend.reserve', alice, settler)
    await story.refused('Forbidden', 'spend.record', alice, settler)
    await story.ok('reservations.list', { userId: 'alice' }, settler)
  })
})

test('scope freeze freezes a user it is granted, and unfreezes none', async () => {
  const client = await clientOf({ users: ['bob'], scopes: ['freeze'] })
  expect(await story.ok('users.freeze', { userId: 'bob', reason: 'wild' }, client)).toMatchObject({
    frozen: { reason: 'wild' },
  })
  await story.refused('Forbidden', 'users.unfreeze', { userId: 'bob' }, client)
  await story.ok('users.unfreeze', { userId: 'bob' })
})
