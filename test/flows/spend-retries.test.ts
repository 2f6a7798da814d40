import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { awayFromMidnight, refusalOf, SpendFlow } from '../ledger/spend-flow.ts'
import { RawClient } from '../support/raw-client.ts'

let flow: SpendFlow
beforeAll(async () => {
  await awayFromMidnight(20_000)
  flow = await SpendFlow.start()
})
afterAll(async () => flow[Symbol.asyncDispose]())

const conflict = (resource: string, field: string) => ({
  code: 2002,
  type: 'Conflict',
  retryable: false,
  resource,
  field,
})

describe('idempotencyKey of spend.reserve', () => {
  test('the same params get the first answer, the state as it is now', async () => {
    const userId = await flow.user()
    const asked = { ttlSeconds: 3600, idempotencyKey: 'one' }
    const first = await flow.reserve(userId, '5', asked)
    await flow.reserve(userId, '7')
    for (const amountUsd of ['5', '5.00', '5.000000', 5, 5.0])
      expect(await flow.reserve(userId, amountUsd, asked)).toEqual(first)
    await flow.capture(first.reservationId, { amountUsd: '2', final: false })
    expect(await flow.reserve(userId, '5', asked)).toEqual(first)
    await flow.void(first.reservationId)
    expect(await flow.reserve(userId, '5', asked)).toEqual({ ...first, state: 'voided' })
    expect((await flow.status(userId)).userDaily).toMatchObject({ reservedUsd: '7.00', spentUsd: '2.00' })
  })

  test('a default is the same as its value', async () => {
    const userId = await flow.user()
    const first = await flow.reserve(userId, '5', { idempotencyKey: 'one' })
    expect(await flow.reserve(userId, '5', { idempotencyKey: 'one', ttlSeconds: 60 })).toEqual(first)
  })

  test('other params are a Conflict that names the first that differs, in the order of the contract', async () => {
    const userId = await flow.user()
    const credentialId = await flow.credential(userId)
    await flow.reserve(userId, '5', { idempotencyKey: 'one' })
    for (const [field, other] of [
      ['credentialId', { credentialId }],
      ['credentialId', { credentialId, amountUsd: '6', ttlSeconds: 61 }],
      ['amountUsd', { amountUsd: '5.000001' }],
      ['amountUsd', { amountUsd: '6', ttlSeconds: 61 }],
      ['ttlSeconds', { ttlSeconds: 61 }],
    ] as const)
      expect(
        await flow.refused('spend.reserve', { userId, amountUsd: '5', idempotencyKey: 'one', ...other }),
      ).toMatchObject(conflict('idempotencyKey', field))
    expect((await flow.call('reservations.list', { userId })).reservations).toHaveLength(1)
  })

  test("is each user's own, and each method's", async () => {
    const [alice, bob] = [await flow.user(), await flow.user()]
    const more = { idempotencyKey: 'same' }
    const first = await flow.reserve(alice, '5', more)
    expect((await flow.reserve(bob, '9', more)).reservationId).not.toBe(first.reservationId)
    const { positionId } = await flow.record(alice, '7', more)
    await flow.call('positions.close', { userId: alice, positionId, ...more })
    expect(await flow.reserve(alice, '5', more)).toEqual(first)
  })

  test('only an accepted act binds it: a refusal is decided anew', async () => {
    const userId = await flow.user({ limits: { dailyUsd: '10' } })
    const asked = { userId, amountUsd: '20', idempotencyKey: 'one' }
    expect((await flow.refused('spend.reserve', asked)).level).toBe('user_daily')
    await flow.call('users.put', { userId, limits: { dailyUsd: '30' } })
    const { reservationId } = await flow.call('spend.reserve', asked)
    // Accepted now, it is answered though no more than it would be granted.
    await flow.call('users.put', { userId, limits: { dailyUsd: '0' } })
    expect(await flow.call('spend.reserve', asked)).toMatchObject({ reservationId })
    // And another amount may take an id that was refused.
    await flow.refused('spend.reserve', { ...asked, idempotencyKey: 'two' })
    await flow.call('users.put', { userId, limits: { dailyUsd: '30' } })
    await flow.call('spend.reserve', { ...asked, idempotencyKey: 'two', amountUsd: '3' })
  })

  test('an answer given again still tells what was left when it was given first', async () => {
    const userId = await flow.user()
    const first = await flow.reserve(userId, '5', { idempotencyKey: 'one' })
    await flow.record(userId, '100')
    expect((await flow.reserve(userId, '5', { idempotencyKey: 'one' })).remaining).toEqual(first.remaining)
  })

  test('a Conflict comes before the limits, and after a credential that is revoked', async () => {
    const userId = await flow.user()
    const credentialId = await flow.credential(userId)
    await flow.reserve(userId, '5', { idempotencyKey: 'one' })
    const other = { userId, amountUsd: '1000', idempotencyKey: 'one' }
    expect((await flow.refused('spend.reserve', other)).type).toBe('Conflict')
    await flow.call('credentials.revoke', { userId, credentialId })
    expect((await flow.refused('spend.reserve', other)).type).toBe('CredentialRevoked')
    // A grant that was taken away is not given again by a retry.
    expect((await flow.refused('spend.reserve', { ...other, amountUsd: '5' })).type).toBe('CredentialRevoked')
  })
})

describe('idempotencyKey of spend.record', () => {
  test('the same params get the first answer; others a Conflict', async () => {
    const userId = await flow.user()
    const credentialId = await flow.credential(userId)
    const asked = { idempotencyKey: 'one', tradeId: 't' }
    const first = await flow.record(userId, '5', asked)
    expect(await flow.record(userId, '5.00', asked)).toEqual(first)
    for (const [field, other] of [
      ['credentialId', { credentialId, amountUsd: '6' }],
      ['amountUsd', { amountUsd: '6', tradeId: 'u' }],
      ['tradeId', { tradeId: 'u' }],
      ['tradeId', { tradeId: undefined }],
    ] as const)
      expect(
        await flow.refused('spend.record', { userId, amountUsd: '5', ...asked, ...other }),
      ).toMatchObject(conflict('idempotencyKey', field))
    expect((await flow.status(userId)).userDaily.spentUsd).toBe('5.00')
  })
})

describe('tradeId, one name space for capture and record', () => {
  test('of a record: given again the first answer, with others a Conflict', async () => {
    const userId = await flow.user()
    const first = await flow.record(userId, '5', { tradeId: 17 })
    expect(await flow.record(userId, 5, { tradeId: '17' })).toEqual(first)
    expect(await flow.refused('spend.record', { userId, amountUsd: '6', tradeId: 17 })).toMatchObject(
      conflict('tradeId', 'amountUsd'),
    )
    expect(
      await flow.refused('spend.record', { userId, amountUsd: '5', tradeId: 17, idempotencyKey: 'late' }),
    ).toMatchObject(conflict('tradeId', 'idempotencyKey'))
    // The Conflict bound nothing.
    await flow.record(userId, '6', { tradeId: 18, idempotencyKey: 'late' })
    expect((await flow.status(userId)).userDaily.spentUsd).toBe('11.00')
  })

  test('of a capture: also once the reservation is closed by another act', async () => {
    const userId = await flow.user()
    const { reservationId } = await flow.reserve(userId, '40')
    const asked = { amountUsd: '10', tradeId: 't', final: false }
    const first = await flow.capture(reservationId, asked)
    expect(await flow.capture(reservationId, { ...asked, amountUsd: 10 })).toEqual(first)
    for (const [field, other] of [
      ['amountUsd', { amountUsd: '11' }],
      ['amountUsd', { amountUsd: undefined }],
      ['final', { final: true }],
    ] as const)
      expect(await flow.refused('spend.capture', { reservationId, ...asked, ...other })).toMatchObject(
        conflict('tradeId', field),
      )
    const second = await flow.reserve(userId, '40')
    expect(
      await flow.refused('spend.capture', { ...asked, reservationId: second.reservationId }),
    ).toMatchObject(conflict('tradeId', 'reservationId'))
    await flow.void(reservationId)
    expect(await flow.capture(reservationId, asked)).toEqual(first)
    expect((await flow.status(userId)).userDaily.spentUsd).toBe('10.00')
  })

  test('what was captured is not recorded, and what was recorded not captured', async () => {
    const userId = await flow.user()
    const { reservationId } = await flow.reserve(userId, '40')
    await flow.capture(reservationId, { amountUsd: '10', tradeId: 'a', final: false })
    await flow.record(userId, '10', { tradeId: 'b' })
    expect(await flow.refused('spend.record', { userId, amountUsd: '10', tradeId: 'a' })).toMatchObject(
      conflict('tradeId', 'tradeId'),
    )
    expect(
      await flow.refused('spend.capture', { reservationId, amountUsd: '10', tradeId: 'b', final: false }),
    ).toMatchObject(conflict('tradeId', 'tradeId'))
    expect((await flow.status(userId)).userDaily.spentUsd).toBe('20.00')
  })

  test("is each user's own", async () => {
    const [alice, bob] = [await flow.user(), await flow.user()]
    await flow.record(alice, '5', { tradeId: 't' })
    await flow.record(bob, '6', { tradeId: 't' })
  })
})

describe('idempotencyKey of positions.close', () => {
  test('the same params get the first answer, whatever is open now', async () => {
    const userId = await flow.user()
    const { positionId } = await flow.record(userId, '50', { tradeId: 't' })
    const asked = { userId, positionId, amountUsd: '20', idempotencyKey: 'one' }
    const first = await flow.call('positions.close', asked)
    await flow.call('positions.close', { userId, positionId, amountUsd: '25' })
    expect(await flow.call('positions.close', { ...asked, amountUsd: 20 })).toEqual(first)
    expect((await flow.status(userId)).exposure.openUsd).toBe('5.00')
    for (const [field, other] of [
      ['positionId', { positionId: undefined, tradeId: 't' }],
      ['amountUsd', { amountUsd: '2' }],
      ['amountUsd', { amountUsd: undefined }],
    ] as const)
      expect(await flow.refused('positions.close', { ...asked, ...other })).toMatchObject(
        conflict('idempotencyKey', field),
      )
    // Without a key every close is one of its own.
    expect(await flow.refused('positions.close', { userId, positionId, amountUsd: '20' })).toMatchObject({
      code: -32602,
    })
  })

  test('closing all, repeated, tells what was closed the first time', async () => {
    const userId = await flow.user()
    const { positionId } = await flow.record(userId, '50')
    const asked = { userId, positionId, idempotencyKey: 'all' }
    for (let times = 0; times < 2; times++)
      expect(await flow.call('positions.close', asked)).toEqual({ closedUsd: '50.00', openUsd: '0.00' })
    expect(await flow.call('positions.close', { userId, positionId })).toEqual({
      closedUsd: '0.00',
      openUsd: '0.00',
    })
  })
})

describe('under concurrency', () => {
  test('the same id from many connections is one act', async () => {
    const userId = await flow.user()
    const clients = Array.from({ length: 16 }, () => new RawClient(flow.purser.socketPath))
    try {
      const reserves = await Promise.all(
        clients.flatMap((client) =>
          ['5', 5, '5.00'].map((amountUsd) =>
            client.call('spend.reserve', { userId, amountUsd, idempotencyKey: 'one' }),
          ),
        ),
      )
      expect(new Set(reserves.map(({ result }) => JSON.stringify(result))).size).toBe(1)
      const records = await Promise.all(
        clients.map((client) =>
          client.call('spend.record', { userId, amountUsd: '7', tradeId: 't', idempotencyKey: 'one' }),
        ),
      )
      expect(new Set(records.map(({ result }) => JSON.stringify(result))).size).toBe(1)
      const { userDaily } = await flow.status(userId)
      expect([userDaily.reservedUsd, userDaily.spentUsd]).toEqual(['5.00', '7.00'])
      expect((await flow.entries(userId, { action: 'spend_*' })).length).toBe(2)
    } finally {
      for (const client of clients) client.close()
    }
  })

  test('the same id with different contents is one of them, and Conflict for the others', async () => {
    const userId = await flow.user()
    const { reservationId } = await flow.reserve(userId, '60')
    const clients = Array.from({ length: 12 }, () => new RawClient(flow.purser.socketPath))
    try {
      const answers = await Promise.all(
        clients.map((client, index) =>
          index % 2 === 0
            ? client.call('spend.record', { userId, amountUsd: String(index + 1), tradeId: 't' })
            : client.call('spend.capture', {
                reservationId,
                amountUsd: String(index + 1),
                tradeId: 't',
                final: false,
              }),
        ),
      )
      expect(answers.filter(({ error }) => error === undefined)).toHaveLength(1)
      for (const answer of answers)
        if (answer.error !== undefined)
          expect(refusalOf(answer)).toMatchObject({ type: 'Conflict', resource: 'tradeId' })
      expect((await flow.call('positions.list', { userId })).positions).toHaveLength(1)
    } finally {
      for (const client of clients) client.close()
    }
  })
})

test('retries are kept for the life of the ledger: over restarts, closing acts included', async () => {
  const userId = await flow.user()
  const reserved = await flow.reserve(userId, '5', { idempotencyKey: 'one', ttlSeconds: 3600 })
  const recorded = await flow.record(userId, '6', { tradeId: 't', idempotencyKey: 'one' })
  const captured = await flow.capture(reserved.reservationId, { amountUsd: '4', tradeId: 'u' })
  const closed = await flow.call('positions.close', { userId, tradeId: 't', idempotencyKey: 'one' })
  const voided = await flow.reserve(userId, '8')
  await flow.void(voided.reservationId, { reason: 'x' })
  const head = async () => (await flow.entries(userId)).at(-1)!.seq
  const before = await head()
  await flow.purser.kill('SIGKILL')
  await flow.restart()
  expect(await flow.reserve(userId, '5.0', { idempotencyKey: 'one', ttlSeconds: 3600 })).toEqual({
    ...reserved,
    state: 'captured',
  })
  expect(await flow.record(userId, 6, { tradeId: 't', idempotencyKey: 'one' })).toEqual(recorded)
  expect(await flow.capture(reserved.reservationId, { amountUsd: 4, tradeId: 'u' })).toEqual(captured)
  expect(await flow.call('positions.close', { userId, tradeId: 't', idempotencyKey: 'one' })).toEqual(closed)
  expect(await flow.void(voided.reservationId, { reason: 'x' })).toEqual({ releasedUsd: '8.00' })
  expect(
    await flow.refused('spend.reserve', { userId, amountUsd: '6', idempotencyKey: 'one' }),
  ).toMatchObject({
    type: 'Conflict',
    field: 'amountUsd',
  })
  // A retry is the same act, so it is not told of again; the Conflict is.
  expect((await flow.entries(userId)).filter(({ seq }) => seq > before)).toMatchObject([
    { action: 'spend_rejected', outcome: 'denied', details: { error: 'Conflict' } },
  ])
  expect((await flow.status(userId)).userDaily).toMatchObject({ spentUsd: '10.00', reservedUsd: '0.00' })
})
