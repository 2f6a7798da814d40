import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SpendFlow } from '../ledger/spend-flow.ts'

const most = '1000000000000'
const wide = { limits: { perTradeUsd: most, dailyUsd: most, exposureUsd: most } }

let flow: SpendFlow
beforeAll(async () => {
  flow = await SpendFlow.start()
})
afterAll(async () => flow[Symbol.asyncDispose]())

/** What the issues are about; one member may have several. */
function pathsOf({ issues }: { issues: { path: string }[] }): string[] {
  return [...new Set(issues.map(({ path }) => path))]
}

/** What is no amount, each with what it is. */
const badAmounts: [string, unknown][] = [
  ['zero', '0'],
  ['zero with digits', '0.000000'],
  ['the number zero', 0],
  ['minus zero', '-0'],
  ['negative', '-1'],
  ['a negative number', -0.01],
  ['a sign', '+1'],
  ['an exponent', '1e3'],
  ['an exponent in capitals', '1E3'],
  ['hex', '0x10'],
  ['seven fraction digits', '1.0000001'],
  ['seven fraction digits that are zero', '1.0000000'],
  ['a number with seven fraction digits', 1.0000001],
  ['a number below a micro-dollar', 0.0000001],
  ['a number of 10^9', 1_000_000_000],
  ['a number above 10^9', 1_000_000_000.5],
  ['a number written with an exponent', 1e21],
  ['a micro-dollar above 10^12', '1000000000000.000001'],
  ['above 10^12', '1000000000001'],
  ['14 digits', '10000000000000'],
  ['a leading zero', '01'],
  ['no whole part', '.5'],
  ['no fraction after the point', '5.'],
  ['a comma', '1,5'],
  ['a separator', '1_000'],
  ['white space', ' 5'],
  ['a line end', '5\n'],
  ['digits of another script', '٥'],
  ['a word', 'NaN'],
  ['infinity', 'Infinity'],
  ['a currency', '$5'],
  ['nothing', ''],
  ['a long string of zeros', `5.${'0'.repeat(200)}`],
  ['null', null],
  ['true', true],
  ['a list', ['5']],
  ['an object', { usd: '5' }],
]

describe('what is no amount is InvalidParams, and changes nothing', () => {
  let userId = ''
  let reservationId = ''
  let positionId = ''
  let before: unknown
  let head = 0
  beforeAll(async () => {
    userId = await flow.user(wide)
    reservationId = (await flow.reserve(userId, '50', { ttlSeconds: 3600 })).reservationId
    positionId = (await flow.record(userId, '50')).positionId
    before = await flow.status(userId)
    head = await flow.head()
  })

  test.each(badAmounts)('%s', async (_name, amountUsd) => {
    const methods: [string, object][] = [
      ['spend.check', { userId }],
      ['spend.reserve', { userId }],
      ['spend.record', { userId }],
      ['spend.capture', { reservationId }],
      ['positions.close', { userId, positionId }],
    ]
    for (const [method, params] of methods) {
      const error = await flow.refused(method, { ...params, amountUsd })
      expect(error, method).toMatchObject({ code: -32602, type: 'InvalidParams', retryable: false })
      expect(pathsOf(error), method).toEqual(['amountUsd'])
      expect(error.issues[0].message).not.toBe('')
    }
  })

  test('an amount is not left out where it is asked for', async () => {
    for (const method of ['spend.check', 'spend.reserve', 'spend.record'])
      expect((await flow.refused(method, { userId })).issues).toMatchObject([{ path: 'amountUsd' }])
  })

  afterAll(async () => {
    expect(await flow.status(userId)).toEqual(before)
    expect(await flow.head()).toBe(head)
  })
})

describe('what is an amount', () => {
  test.each<[unknown, string]>([
    ['5', '5.00'],
    ['5.0', '5.00'],
    ['5.10', '5.10'],
    ['5.100000', '5.10'],
    ['0.000001', '0.000001'],
    [5, '5.00'],
    [5.25, '5.25'],
    [0.1, '0.10'],
    [0.000001, '0.000001'],
    [1e3, '1000.00'],
    [999_999_999.5, '999999999.50'],
    [999_999_999.999999, '999999999.999999'],
    ['1000000000', '1000000000.00'],
    [most, '1000000000000.00'],
    ['999999999999.999999', '999999999999.999999'],
    ['9007199254.740993', '9007199254.740993'],
  ])('%s is %s', async (amountUsd, exact) => {
    const userId = await flow.user(wide)
    const { reservationId, amountUsd: held } = await flow.call('spend.reserve', { userId, amountUsd })
    expect(held).toBe(exact)
    expect(await flow.capture(reservationId)).toMatchObject({ amountUsd: exact, releasedUsd: '0.00' })
    const { positions } = await flow.call('positions.list', { userId })
    expect(positions).toMatchObject([{ amountUsd: exact, openUsd: exact }])
  })

  test('written as a JSON number in any form of the same value', async () => {
    const userId = await flow.user(wide)
    for (const text of ['5', '5.0', '5.00000000000', '0.5e1', '50E-1', '500e-2']) {
      flow.client.send(
        `{"jsonrpc":"2.0","id":"n","method":"spend.record","params":{"userId":"${userId}","amountUsd":${text}}}\n`,
      )
      expect(
        await flow.client.answer((answer) => !Array.isArray(answer) && answer.id === 'n'),
      ).toHaveProperty('result')
    }
    expect((await flow.status(userId)).exposure.openUsd).toBe('30.00')
  })

  test('sums are exact to the last digit past 2^53 micro-dollars', async () => {
    const userId = await flow.user(wide)
    await flow.record(userId, '9007199254.740993')
    await flow.record(userId, '0.000001')
    const { reservationId, remaining } = await flow.reserve(userId, '9007199254.740995')
    expect(remaining).toEqual({
      perTradeUsd: '1000000000000.00',
      credentialDailyUsd: null,
      userDailyUsd: '981985601490.518011',
      exposureUsd: '981985601490.518011',
    })
    expect(await flow.capture(reservationId, { amountUsd: '9007199254.740993' })).toMatchObject({
      amountUsd: '9007199254.740993',
      releasedUsd: '0.000002',
    })
    const status = await flow.status(userId)
    expect(status.userDaily).toMatchObject({ spentUsd: '18014398509.481987', percent: 1.8 })
    expect(status.exposure).toMatchObject({
      openUsd: '18014398509.481987',
      remainingUsd: '981985601490.518013',
    })
    expect(await flow.refused('spend.check', { userId, amountUsd: '981985601490.518014' })).toMatchObject({
      level: 'user_daily',
      limitUsd: '1000000000000.00',
      usedUsd: '18014398509.481987',
      requestedUsd: '981985601490.518014',
      availableUsd: '981985601490.518013',
    })
    await flow.call('spend.check', { userId, amountUsd: '981985601490.518013' })
  })
})

describe('limits', () => {
  test('may be 0: then nothing is granted', async () => {
    const userId = await flow.user({ limits: { perTradeUsd: 0, dailyUsd: '0', exposureUsd: '0.00' } })
    expect(await flow.refused('spend.reserve', { userId, amountUsd: '0.000001' })).toMatchObject({
      code: 3001,
      type: 'SpendLimitExceeded',
      level: 'per_trade',
      limitUsd: '0.00',
      availableUsd: '0.00',
    })
    const { userDaily, exposure, worstCaseUsd } = await flow.status(userId)
    expect([userDaily.percent, exposure.percent, worstCaseUsd]).toEqual([100, 100, '0.00'])
  })

  test.each(['-1', '1e3', '1.0000001', '1000000000000.000001', 1_000_000_000, ''])(
    'are not %s',
    async (limit) => {
      const userId = await flow.user()
      for (const name of ['perTradeUsd', 'dailyUsd', 'exposureUsd']) {
        const error = await flow.refused('users.put', { userId, limits: { [name]: limit } })
        expect(error).toMatchObject({ code: -32602, issues: [{ path: `limits.${name}` }] })
      }
    },
  )
})

describe('other params', () => {
  test.each([0, -1, 0.5, 86_401, 31_536_000, '60', null, true, 1e300])(
    'ttlSeconds is not %s',
    async (ttlSeconds) => {
      const userId = await flow.user()
      const error = await flow.refused('spend.reserve', { userId, amountUsd: '1', ttlSeconds })
      expect([error.type, pathsOf(error)]).toEqual(['InvalidParams', ['ttlSeconds']])
      expect((await flow.call('reservations.list', { userId })).reservations).toEqual([])
    },
  )

  test.each([1, 60, 86_400])('ttlSeconds may be %s', async (ttlSeconds) => {
    const userId = await flow.user()
    const { reservationId, expiresAt } = await flow.reserve(userId, '1', { ttlSeconds })
    const [held] = (await flow.call('reservations.list', { userId })).reservations
    expect(Date.parse(expiresAt) - Date.parse(held.createdAt)).toBe(ttlSeconds * 1000)
    expect(held).toMatchObject({ reservationId, expiresAt })
  })

  test('without ttlSeconds a hold lasts 60 seconds', async () => {
    const userId = await flow.user()
    await flow.reserve(userId, '1')
    const [held] = (await flow.call('reservations.list', { userId })).reservations
    expect(Date.parse(held.expiresAt) - Date.parse(held.createdAt)).toBe(60_000)
  })

  test.each<[string, string, Record<string, unknown>, string]>([
    ['spend.reserve', 'idempotencyKey', { idempotencyKey: '' }, 'idempotencyKey'],
    ['spend.reserve', 'idempotencyKey of 257 bytes', { idempotencyKey: 'é'.repeat(129) }, 'idempotencyKey'],
    ['spend.reserve', 'half a character', { idempotencyKey: '\ud800' }, 'idempotencyKey'],
    ['spend.reserve', 'a number as idempotencyKey', { idempotencyKey: 5 }, 'idempotencyKey'],
    ['spend.record', 'an empty tradeId', { tradeId: '' }, 'tradeId'],
    ['spend.record', 'a negative tradeId', { tradeId: -1 }, 'tradeId'],
    ['spend.record', 'a broken tradeId', { tradeId: 1.5 }, 'tradeId'],
    ['spend.record', 'an unsafe tradeId', { tradeId: 2 ** 53 }, 'tradeId'],
    ['spend.reserve', 'credentialId 0', { credentialId: 0 }, 'credentialId'],
    ['spend.reserve', 'a credentialId in quotes', { credentialId: '1' }, 'credentialId'],
    ['spend.reserve', 'an unknown member', { amount: '5' }, 'amount'],
    ['spend.reserve', 'a tradeId, which belongs to the capture', { tradeId: 't' }, 'tradeId'],
    ['spend.check', 'a ttl, which belongs to the reserve', { ttlSeconds: 5 }, 'ttlSeconds'],
  ])('%s does not take %s', async (method, _name, more, path) => {
    const userId = await flow.user()
    expect(await flow.refused(method, { userId, amountUsd: '1', ...more })).toMatchObject({
      code: -32602,
      issues: [{ path }],
    })
  })

  test.each<[string, Record<string, unknown>]>([
    ['spend.capture', { reservationId: 'r1', final: 'yes' }],
    ['spend.capture', { reservationId: 1 }],
    ['spend.capture', {}],
    ['spend.void', { reservationId: '' }],
    ['spend.void', { reservationId: 'r1', reason: '' }],
    ['positions.close', { userId: 'a', positionId: 'x'.repeat(65) }],
    ['positions.close', { userId: 'a' }],
    ['positions.close', { userId: 'a', positionId: 'p1', tradeId: 't' }],
    ['reservations.list', { userId: 'a', state: 'open' }],
    ['reservations.list', { userId: 'a', signed: 1 }],
    ['reservations.list', { userId: 'a', limit: 0 }],
    ['reservations.list', { userId: 'a', limit: 1001 }],
    ['positions.list', { userId: 'a', state: 'held' }],
    ['spend.usage', { cursor: 'x' }],
    ['positions.list', { userId: 'a', cursor: '-1' }],
    ['reservations.list', { userId: 'a', cursor: '1; DROP TABLE reservations' }],
    ['system.freeze', {}],
    ['system.freeze', { reason: '' }],
    ['users.freeze', { userId: 'a' }],
    ['system.unfreeze', { reason: 'x' }],
    ['spend.status', { userId: '' }],
    ['spend.status', { userId: 'a b' }],
    ['spend.status', { userId: -1 }],
    ['spend.status', { userId: 'x'.repeat(129) }],
  ])('%s does not take %j', async (method, params) => {
    expect(await flow.refused(method, params)).toMatchObject({ code: -32602, type: 'InvalidParams' })
  })

  test('a userId and a tradeId may be integers, and are their decimal strings', async () => {
    await flow.call('users.put', { userId: 4711 })
    await flow.record('4711', '5', { tradeId: 99 })
    const { positions } = await flow.call('positions.list', { userId: 4711 })
    expect(positions).toMatchObject([{ userId: '4711', tradeId: '99' }])
    expect(await flow.call('positions.close', { userId: 4711, tradeId: '99' })).toEqual({
      closedUsd: '5.00',
      openUsd: '0.00',
    })
  })

  test('ids are kept as they are, whatever is in them', async () => {
    const userId = await flow.user()
    const ids = ["'; DROP TABLE retries; --", 'a\u0000b', 'a', '"', '%', '__proto__', 'é'.repeat(128), '𝒯']
    const made = []
    for (const id of ids) made.push(await flow.record(userId, '1', { tradeId: id, idempotencyKey: id }))
    for (const [index, id] of ids.entries())
      expect(await flow.record(userId, '1', { tradeId: id, idempotencyKey: id })).toEqual(made[index])
    const { positions } = await flow.call('positions.list', { userId })
    expect(positions.map(({ tradeId }: { tradeId: string }) => tradeId)).toEqual(ids)
  })
})
