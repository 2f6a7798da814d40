import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { SpendFlow } from '../ledger/spend-flow.ts'

/** The shortest hold there is, and a little. */
const overMs = 1050

test.concurrent('a hold whose time is over frees itself at the next decision, not by a timer alone', async () => {
  await using flow = await SpendFlow.start()
  const limits = { perTradeUsd: '100', dailyUsd: '100', exposureUsd: '100' }
  const asks: [string, (userId: string) => Promise<unknown>][] = [
    ['check', (userId) => flow.call('spend.check', { userId, amountUsd: '100' })],
    ['reserve', (userId) => flow.reserve(userId, '100')],
    [
      'record',
      async (userId) => expect(await flow.record(userId, '100')).toMatchObject({ overLimit: false }),
    ],
    ['status', async (userId) => expect((await flow.status(userId)).userDaily.remainingUsd).toBe('100.00')],
    [
      'list',
      async (userId) => expect((await flow.call('reservations.list', { userId })).reservations).toEqual([]),
    ],
  ]
  const users: [(userId: string) => Promise<unknown>, string, string][] = []
  for (const [, ask] of asks) {
    const userId = await flow.user({ limits })
    const { reservationId } = await flow.reserve(userId, '100', { ttlSeconds: 1 })
    expect((await flow.refused('spend.check', { userId, amountUsd: '0.01' })).availableUsd).toBe('0.00')
    users.push([ask, userId, reservationId])
  }
  await sleep(overMs)
  for (const [ask, userId, reservationId] of users) {
    await ask(userId)
    for (const method of ['spend.capture', 'spend.void'])
      expect(await flow.refused(method, { reservationId })).toMatchObject({ code: 3002, state: 'expired' })
    const { reservations } = await flow.call('reservations.list', { userId, state: 'expired' })
    expect(reservations).toMatchObject([{ reservationId, state: 'expired', capturedUsd: '0.00' }])
  }
})

test.concurrent('a capture of one that is over is refused, though nobody has freed it yet', async () => {
  await using flow = await SpendFlow.start()
  const userId = await flow.user()
  const { reservationId } = await flow.reserve(userId, '40', { ttlSeconds: 1 })
  await flow.capture(reservationId, { amountUsd: '10', final: false })
  await sleep(overMs)
  expect((await flow.refused('spend.capture', { reservationId })).state).toBe('expired')
  const { userDaily } = await flow.status(userId)
  expect([userDaily.spentUsd, userDaily.reservedUsd]).toEqual(['10.00', '0.00'])
})

test.concurrent('an id given for a hold that is over gets its first answer, expired, and no new hold', async () => {
  await using flow = await SpendFlow.start()
  const userId = await flow.user()
  const asked = { ttlSeconds: 1, idempotencyKey: 'one' }
  const first = await flow.reserve(userId, '40', asked)
  await sleep(overMs)
  expect(await flow.reserve(userId, '40', asked)).toEqual({ ...first, state: 'expired' })
  expect((await flow.status(userId)).userDaily.reservedUsd).toBe('0.00')
})

test.concurrent('at a start a hold that went over meanwhile is kept one more ttl, once', async () => {
  await using flow = await SpendFlow.start()
  const userId = await flow.user()
  const { reservationId } = await flow.reserve(userId, '40', { ttlSeconds: 3 })
  const other = await flow.reserve(userId, '30', { ttlSeconds: 3 })
  await flow.purser.kill('SIGKILL')
  await sleep(3050)
  await flow.restart()
  const kept = await flow.call('reservations.list', { userId })
  expect(kept.reservations).toHaveLength(2)
  expect((await flow.status(userId)).userDaily.reservedUsd).toBe('70.00')
  expect(await flow.capture(other.reservationId)).toMatchObject({ amountUsd: '30.00' })
  await flow.purser.kill('SIGKILL')
  await sleep(3050)
  await flow.restart()
  expect((await flow.status(userId)).userDaily).toMatchObject({ reservedUsd: '0.00', spentUsd: '30.00' })
  expect((await flow.refused('spend.capture', { reservationId })).state).toBe('expired')
})
