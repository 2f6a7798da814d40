import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AuditView } from '../ledger/spend-flow.ts'
import { SpendFlow } from '../ledger/spend-flow.ts'

let flow: SpendFlow
beforeAll(async () => {
  flow = await SpendFlow.start()
})
afterAll(async () => flow[Symbol.asyncDispose]())

/** The entries that `act` leaves, whoever they are of. */
async function left(act: () => Promise<unknown>): Promise<AuditView[]> {
  const before = await flow.head()
  await act()
  const { entries } = await flow.call('audit.query', { limit: 100 })
  return entries
    .filter(({ seq, action }: AuditView) => seq > before && action !== 'spend_expired')
    .toReversed()
}

describe('every act leaves exactly one entry', () => {
  test('reserve, capture, record, void and close, with what they did', async () => {
    const userId = await flow.user()
    const credentialId = await flow.credential(userId)
    const of = { userId, credentialId, outcome: 'ok' }
    let id = ''
    const reserved = await left(async () => {
      id = (await flow.reserve(userId, '40')).reservationId
    })
    expect(reserved).toMatchObject([
      { ...of, action: 'spend_reserved', details: { reservationId: id, amountUsd: '40.00' } },
    ])
    let positionId = ''
    const captured = await left(async () => {
      positionId = (await flow.capture(id, { amountUsd: '10', tradeId: 't', final: false })).positionId
    })
    expect(captured).toMatchObject([
      {
        ...of,
        action: 'spend_captured',
        details: { reservationId: id, positionId, amountUsd: '10.00', releasedUsd: '0.00', tradeId: 't' },
      },
    ])
    expect(await left(() => flow.void(id, { reason: 'no fill' }))).toMatchObject([
      {
        ...of,
        action: 'spend_voided',
        details: { reservationId: id, releasedUsd: '30.00', reason: 'no fill' },
      },
    ])
    expect(await left(() => flow.record(userId, '1000'))).toMatchObject([
      { ...of, action: 'spend_recorded', details: { amountUsd: '1000.00', overLimit: true, tradeId: null } },
    ])
    expect(
      await left(() => flow.call('positions.close', { userId, positionId, amountUsd: '4' })),
    ).toMatchObject([
      { ...of, action: 'position_closed', details: { positionId, closedUsd: '4.00', openUsd: '6.00' } },
    ])
  })

  test('limits and freezes', async () => {
    const userId = await flow.user()
    expect(await left(() => flow.call('users.put', { userId, limits: { dailyUsd: '7' } }))).toMatchObject([
      { action: 'limits_updated', userId, outcome: 'ok' },
    ])
    expect(await left(() => flow.call('users.put', { userId, email: 'a@b.c' }))).toMatchObject([
      { action: 'user_put', userId },
    ])
    expect(await left(() => flow.call('users.freeze', { userId, reason: 'wild' }))).toMatchObject([
      { action: 'user_frozen', userId, outcome: 'ok', details: { reason: 'wild' } },
    ])
    expect(await left(() => flow.call('users.unfreeze', { userId }))).toMatchObject([
      { action: 'user_unfrozen', userId, outcome: 'ok' },
    ])
    expect(await left(() => flow.call('system.freeze', { reason: 'all' }))).toMatchObject([
      { action: 'system_frozen', userId: null, outcome: 'ok', details: { reason: 'all' } },
    ])
    const day = Math.floor(Date.now() / 86_400_000)
    expect(await left(() => flow.call('system.unfreeze'))).toMatchObject([
      { action: 'system_unfrozen', userId: null, outcome: 'ok', details: { day } },
    ])
  })
})

describe('every refusal leaves exactly one entry, denied', () => {
  test('of a reserve: spend_rejected', async () => {
    const userId = await flow.user()
    const other = await flow.user()
    const credentialId = await flow.credential(userId)
    await flow.reserve(userId, '5', { idempotencyKey: 'one' })
    const rejected = (error: string, more: object = {}) => [
      {
        action: 'spend_rejected',
        userId,
        outcome: 'denied',
        details: { error },
        credentialId: null,
        ...more,
      },
    ]
    const refuse = (more: object) =>
      left(() => flow.refused('spend.reserve', { userId, amountUsd: '5', ...more }))
    expect(await refuse({ amountUsd: '101' })).toMatchObject(rejected('SpendLimitExceeded'))
    expect(await refuse({ amountUsd: '101', credentialId })).toMatchObject(
      rejected('SpendLimitExceeded', { credentialId }),
    )
    expect(await refuse({ idempotencyKey: 'one', amountUsd: '6' })).toMatchObject(rejected('Conflict'))
    expect(await refuse({ credentialId: 999_999 })).toMatchObject(
      rejected('NotFound', { credentialId: 999_999, details: { error: 'NotFound', resource: 'credential' } }),
    )
    expect(await refuse({ userId: 'nobody' })).toMatchObject(rejected('NotFound', { userId: 'nobody' }))
    await flow.call('users.freeze', { userId, reason: 'wild' })
    expect(await refuse({})).toMatchObject(rejected('Frozen'))
    await flow.call('users.unfreeze', { userId })
    await flow.call('credentials.revoke', { userId, credentialId })
    expect(await refuse({})).toMatchObject(rejected('CredentialRevoked'))
    const expired = await flow.credential(other)
    await flow.call('credentials.update', {
      userId: other,
      credentialId: expired,
      expiresAt: '2020-01-01T00:00:00Z',
    })
    expect(await refuse({ userId: other })).toMatchObject(rejected('CredentialExpired', { userId: other }))
  })

  test('one above a limit names the level and the amounts, and nothing else', async () => {
    const userId = await flow.user({ limits: { perTradeUsd: '100', dailyUsd: '50', exposureUsd: '40' } })
    const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '30.5' })
    await flow.reserve(userId, '10.000001')
    const details = async (amountUsd: string) =>
      (await left(() => flow.refused('spend.reserve', { userId, amountUsd })))[0]!.details
    const error = 'SpendLimitExceeded'
    expect(await details('100.01')).toEqual({
      error,
      level: 'per_trade',
      requestedUsd: '100.01',
      limitUsd: '100.00',
      availableUsd: '100.00',
    })
    expect(await details('21')).toEqual({
      error,
      level: 'credential_daily',
      requestedUsd: '21.00',
      limitUsd: '30.50',
      availableUsd: '20.499999',
    })
    await flow.call('credentials.update', { userId, credentialId, dailySpendLimitUsd: null })
    expect(await details('41')).toMatchObject({ level: 'user_daily', availableUsd: '39.999999' })
    await flow.call('users.put', { userId, limits: { dailyUsd: '500' } })
    expect(await details('31')).toMatchObject({ level: 'exposure', availableUsd: '29.999999' })
  })

  test('of the others: their own action', async () => {
    const userId = await flow.user()
    const { reservationId } = await flow.reserve(userId, '5')
    const { positionId } = await flow.record(userId, '5', { tradeId: 't', idempotencyKey: 'one' })
    await flow.void(reservationId)
    for (const [method, action, params, error, of] of [
      ['spend.capture', 'spend_captured', { reservationId }, 'ReservationClosed', userId],
      ['spend.void', 'spend_voided', { reservationId, reason: 'x' }, 'ReservationClosed', userId],
      ['spend.capture', 'spend_captured', { reservationId: 'r999999' }, 'NotFound', null],
      ['spend.void', 'spend_voided', { reservationId: 'r999999' }, 'NotFound', null],
      ['spend.capture', 'spend_captured', { reservationId, tradeId: 't' }, 'Conflict', userId],
      ['spend.record', 'spend_recorded', { userId, amountUsd: '6', tradeId: 't' }, 'Conflict', userId],
      ['spend.record', 'spend_recorded', { userId: 'nobody', amountUsd: '6' }, 'NotFound', 'nobody'],
      ['positions.close', 'position_closed', { userId, positionId: 'p999999' }, 'NotFound', userId],
      ['users.freeze', 'user_frozen', { userId: 'nobody', reason: 'x' }, 'NotFound', 'nobody'],
      ['users.unfreeze', 'user_unfrozen', { userId: 'nobody' }, 'NotFound', 'nobody'],
    ] as const)
      expect(await left(() => flow.refused(method, params)), `${method} ${error}`).toMatchObject([
        { action, userId: of, outcome: 'denied', details: { error } },
      ])
    expect((await flow.call('positions.list', { userId })).positions).toMatchObject([
      { positionId, openUsd: '5.00' },
    ])
  })
})

test('retries, reads, checks, metrics and protocol errors leave none', async () => {
  const userId = await flow.user()
  const { reservationId } = await flow.reserve(userId, '5', { idempotencyKey: 'one' })
  const { positionId } = await flow.record(userId, '5', { idempotencyKey: 'one', tradeId: 't' })
  await flow.capture(reservationId)
  await flow.call('positions.close', { userId, positionId, idempotencyKey: 'one' })
  const none = await left(async () => {
    await flow.reserve(userId, '5', { idempotencyKey: 'one' })
    await flow.record(userId, '5', { idempotencyKey: 'one', tradeId: 't' })
    await flow.capture(reservationId)
    await flow.call('positions.close', { userId, positionId, idempotencyKey: 'one' })
    await flow.call('spend.check', { userId, amountUsd: '1' })
    await flow.refused('spend.check', { userId, amountUsd: '1000' })
    await flow.status(userId)
    for (const method of ['reservations.list', 'positions.list']) await flow.call(method, { userId })
    for (const method of ['spend.usage', 'system.metrics', 'system.health', 'system.status'])
      await flow.call(method)
    await flow.refused('spend.status', { userId: 'nobody' })
    await flow.refused('spend.reserve', { userId, amountUsd: '-1' })
    const held = await flow.client.call('spend.capture', { reservationId, amountUsd: '9', ttl: 5 })
    expect(held.error?.code).toBe(-32602)
    await flow.refused('positions.close', { userId, positionId, amountUsd: '9' })
  })
  expect(none).toEqual([])
})

test('a hold whose time is over has one entry, by nobody', async () => {
  const userId = await flow.user()
  const { reservationId } = await flow.reserve(userId, '40', { ttlSeconds: 1 })
  await flow.capture(reservationId, { amountUsd: '15', final: false })
  await new Promise((resolve) => setTimeout(resolve, 1100))
  await flow.status(userId)
  const { entries } = await flow.call('audit.query', { userId, action: 'spend_expired' })
  expect(entries).toMatchObject([
    { userId, outcome: 'ok', peer: null, details: { reservationId, releasedUsd: '25.00' } },
  ])
})

test('the chain verifies over all of it', async () => {
  expect(await flow.call('audit.verify')).toMatchObject({ ok: true, macChecked: true, firstBadSeq: null })
})
