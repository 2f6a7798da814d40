import { afterEach, describe, expect, test } from 'vitest'
import { PurserError } from '../../src/errors.ts'
import { dayMs } from '../../src/ledger/clock.ts'
import { perform } from '../../src/store/operations.ts'
import { InProcessLedger } from './in-process.ts'

const usd = (dollars: number) => BigInt(Math.round(dollars * 1_000_000))
const noon = Date.parse('2026-11-23T12:00:00Z')
const minuteMs = 60_000

let ledger: InProcessLedger
afterEach(async () => ledger.close())

async function start(wallMs = noon, credentialDaily: number | null = 400): Promise<number> {
  ledger = await InProcessLedger.open({ wallMs })
  await ledger.users.put(ledger.act(), { userId: 'alice' })
  return await ledger.credential('alice', credentialDaily === null ? null : usd(credentialDaily), true)
}

const reserve = (dollars: number, more: { ttlSeconds?: number; idempotencyKey?: string } = {}) =>
  ledger.reserving.reserve(ledger.act(), { userId: 'alice', amountUsd: usd(dollars), ...more })
const check = (dollars: number) =>
  ledger.reserving.check(ledger.act(), { userId: 'alice', amountUsd: usd(dollars) })
const record = (dollars: number) =>
  ledger.settling.record(ledger.act(), { userId: 'alice', amountUsd: usd(dollars) })
const capture = (reservationId: string, more: { amountUsd?: bigint; final?: boolean } = {}) =>
  ledger.settling.capture(ledger.act(), { reservationId, ...more })
const status = () => ledger.reports.status(ledger.act(), { userId: 'alice' })
const usage = async () => (await ledger.reports.usage(ledger.act(), { limit: 10 })).usage
const entries = (action: string) => ledger.entriesAfter(0).filter((row) => row.action === action)

async function refusal(work: Promise<unknown>): Promise<{ type: string } & Record<string, unknown>> {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof PurserError)) throw new Error(`not refused: ${String(error)}`)
  return { type: error.type, ...error.data }
}

describe('days', () => {
  test('a new UTC day gives back what was spent, of the user and of the credential, and no exposure', async () => {
    await start(Date.parse('2028-02-28T23:59:00Z'))
    for (const dollars of [100, 100, 100]) await record(dollars)
    const before = await status()
    expect(before.userDaily).toMatchObject({ spentUsd: '300.00', resetsAt: '2028-02-29T00:00:00.000Z' })
    expect(before.credentialDaily).toMatchObject({ spentUsd: '300.00', remainingUsd: '100.00' })
    ledger.host.pass(59_999)
    expect((await status()).userDaily.spentUsd).toBe('300.00')
    ledger.host.pass(1)
    const after = await status()
    expect(after.userDaily).toMatchObject({ spentUsd: '0.00', resetsAt: '2028-03-01T00:00:00.000Z' })
    expect(after.credentialDaily).toMatchObject({ spentUsd: '0.00', remainingUsd: '400.00' })
    expect(after.exposure).toMatchObject({ openUsd: '300.00', remainingUsd: '200.00' })
    expect(await usage()).toMatchObject([{ spentUsd: '0.00', percent: 0 }])
  })

  test('a hold counts in every day it is open in, a capture in the day of the capture', async () => {
    await start(Date.parse('2026-12-31T23:50:00Z'))
    const { reservationId } = await reserve(100, { ttlSeconds: 86_400 })
    await record(100)
    expect((await status()).userDaily).toMatchObject({ spentUsd: '100.00', reservedUsd: '100.00' })
    ledger.host.pass(15 * minuteMs)
    expect((await status()).userDaily).toMatchObject({ spentUsd: '0.00', reservedUsd: '100.00' })
    await capture(reservationId, { amountUsd: usd(30), final: false })
    expect((await status()).userDaily).toMatchObject({ spentUsd: '30.00', reservedUsd: '70.00' })
    expect((await status()).credentialDaily).toMatchObject({ spentUsd: '30.00', reservedUsd: '70.00' })
  })

  test('a clock that steps back over midnight by less than five minutes does not reopen the day before', async () => {
    await start(Date.parse('2026-11-23T23:59:30Z'))
    await record(100)
    ledger.host.pass(minuteMs)
    await record(40)
    ledger.host.set(-2 * minuteMs)
    const back = await status()
    expect(back.userDaily).toMatchObject({ spentUsd: '40.00', resetsAt: '2026-11-25T00:00:00.000Z' })
    ledger.host.pass(2 * minuteMs)
    expect((await status()).userDaily.spentUsd).toBe('40.00')
  })

  test('a restart on a later day opens it, once', async () => {
    await start(Date.parse('2026-11-23T23:59:30Z'))
    for (const dollars of [100, 100, 100]) await record(dollars)
    ledger.host.pass(dayMs)
    await ledger.restart()
    expect((await status()).userDaily.spentUsd).toBe('0.00')
    await record(100)
    await ledger.restart()
    expect((await status()).userDaily.spentUsd).toBe('100.00')
  })
})

describe('a clock in doubt', () => {
  test('grants nothing, opens no day and expires no hold, while money that moves is counted', async () => {
    await start()
    const { reservationId } = await reserve(50)
    await record(60)
    ledger.host.set(dayMs)
    const doubtedAt = new Date(ledger.host.wall).toISOString()
    const frozen = { type: 'Frozen', reason: 'clock', since: doubtedAt }
    expect(await refusal(reserve(1))).toEqual(frozen)
    expect(await refusal(check(1))).toEqual(frozen)
    const told = await status()
    expect(told.frozen).toEqual({ reason: 'clock', since: doubtedAt })
    expect(told.userDaily).toMatchObject({
      spentUsd: '60.00',
      reservedUsd: '50.00',
      resetsAt: '2026-11-24T00:00:00.000Z',
    })
    expect(told.worstCaseUsd).toBe('110.00')
    await ledger.sweep()
    const held = await ledger.reports.reservations(ledger.act(), { userId: 'alice', state: 'held', limit: 9 })
    expect(held.reservations).toHaveLength(1)
    await capture(reservationId)
    await record(7)
    expect((await status()).userDaily).toMatchObject({ spentUsd: '117.00', reservedUsd: '0.00' })
    expect(entries('spend_expired')).toHaveLength(0)
    expect(entries('spend_rejected')).toHaveLength(1)
  })

  test('an unfreeze takes the wall as it is: the day ahead is opened, no exposure is freed', async () => {
    await start()
    for (const dollars of [100, 100, 100]) await record(dollars)
    ledger.host.set(dayMs)
    expect((await refusal(reserve(1))).type).toBe('Frozen')
    await ledger.freeze.unfreezeSystem(ledger.act())
    expect((await status()).userDaily).toMatchObject({
      spentUsd: '0.00',
      resetsAt: '2026-11-25T00:00:00.000Z',
    })
    const [lifted] = entries('system_unfrozen')
    expect(JSON.parse(lifted!.details)).toEqual({ dayBefore: 20_780, day: 20_781 })
    // What is open stays open: the clock gives back a day, and no exposure.
    await reserve(100)
    await reserve(100)
    expect((await refusal(reserve(1))).level).toBe('exposure')
  })

  test('what was counted on later days counts in the day that an unfreeze takes back', async () => {
    await start()
    await record(10)
    ledger.host.set(3 * dayMs)
    ledger.clock.look()
    await ledger.freeze.unfreezeSystem(ledger.act())
    await record(100)
    ledger.host.set(-3 * dayMs)
    expect((await refusal(check(1))).reason).toBe('clock')
    await ledger.freeze.unfreezeSystem(ledger.act())
    const back = await status()
    expect(back.userDaily).toMatchObject({ spentUsd: '110.00', resetsAt: '2026-11-24T00:00:00.000Z' })
    expect(back.credentialDaily).toMatchObject({ spentUsd: '110.00', remainingUsd: '290.00' })
    expect(await usage()).toMatchObject([{ spentUsd: '110.00', percent: 27.5 }])
    await record(5)
    expect((await status()).userDaily.spentUsd).toBe('115.00')
    expect(await usage()).toMatchObject([{ spentUsd: '115.00' }])
  })

  test('a clock that once stood years ahead locks nobody out for years', async () => {
    await start()
    ledger.host.set(4 * 365 * dayMs)
    ledger.clock.look()
    await ledger.freeze.unfreezeSystem(ledger.act())
    for (const dollars of [100, 100, 100, 100]) await record(dollars)
    ledger.host.set(-4 * 365 * dayMs)
    ledger.clock.look()
    await ledger.freeze.unfreezeSystem(ledger.act())
    expect((await status()).userDaily).toMatchObject({
      spentUsd: '400.00',
      resetsAt: '2026-11-24T00:00:00.000Z',
    })
    for (const positionId of ['p1', 'p2', 'p3', 'p4'])
      await ledger.settling.close(ledger.act(), { userId: 'alice', positionId })
    ledger.host.pass(dayMs)
    expect((await status()).userDaily).toMatchObject({
      spentUsd: '0.00',
      resetsAt: '2026-11-25T00:00:00.000Z',
    })
    expect(await usage()).toMatchObject([{ spentUsd: '0.00' }])
    await reserve(100)
    // The day that was used is not fresh when it comes again.
    ledger.host.pass((4 * 365 - 1) * dayMs)
    expect((await status()).userDaily).toMatchObject({ spentUsd: '400.00' })
    expect(await usage()).toMatchObject([{ spentUsd: '400.00' }])
  })

  test('a start in doubt is in doubt however often it is tried, until an unfreeze', async () => {
    await start()
    ledger.host.set(2 * dayMs)
    ledger.clock.look()
    await ledger.freeze.unfreezeSystem(ledger.act())
    await record(100)
    ledger.host.set(-2 * dayMs)
    for (let times = 0; times < 3; times++) {
      await ledger.restart()
      expect((await refusal(reserve(1))).reason).toBe('clock')
    }
    await ledger.freeze.unfreezeSystem(ledger.act())
    await ledger.restart()
    expect((await status()).userDaily).toMatchObject({
      spentUsd: '100.00',
      resetsAt: '2026-11-24T00:00:00.000Z',
    })
  })

  test('a start more than five minutes before the last time stored is frozen until an unfreeze', async () => {
    await start()
    await record(10)
    ledger.host.set(-6 * minuteMs)
    await ledger.restart()
    expect((await refusal(reserve(1))).reason).toBe('clock')
    await ledger.freeze.unfreezeSystem(ledger.act())
    await reserve(1)
  })

  test('a freeze that an admin set stays while the clock is in doubt, and is told of once it is not', async () => {
    await start()
    ledger.host.set(dayMs)
    expect((await refusal(reserve(1))).reason).toBe('clock')
    await ledger.freeze.freezeSystem(ledger.act(), 'a look at the books')
    expect((await status()).frozen).toMatchObject({ reason: 'a look at the books' })
    await ledger.freeze.unfreezeSystem(ledger.act())
    await reserve(1)
  })
})

describe('holds whose time is over', () => {
  test('are all free at the next decision, however many, each with an entry of its own', async () => {
    await start(noon, null)
    const count = 1234
    await Promise.all(Array.from({ length: count }, () => reserve(0.4)))
    expect((await refusal(reserve(100))).level).toBe('user_daily')
    ledger.host.pass(60_000)
    await reserve(100)
    expect((await status()).userDaily).toMatchObject({ reservedUsd: '100.00' })
    const told = entries('spend_expired')
    expect(new Set(told.map(({ details }) => details)).size).toBe(count)
    expect(JSON.parse(told[0]!.details)).toEqual({ reservationId: 'r1', releasedUsd: '0.40' })
  })

  test('cannot be captured, also where hundreds of others are over as well', async () => {
    await start(noon, null)
    const holds = await Promise.all(Array.from({ length: 700 }, () => reserve(0.4)))
    ledger.host.pass(60_000)
    expect(await refusal(capture(holds.at(-1)!.reservationId))).toEqual({
      type: 'ReservationClosed',
      state: 'expired',
    })
    const listed = await ledger.reports.reservations(ledger.act(), {
      userId: 'alice',
      state: 'held',
      limit: 9,
    })
    expect(listed.reservations).toEqual([])
  })

  test('stay free where the decision that freed them was refused', async () => {
    await start()
    await reserve(100, { idempotencyKey: 'one' })
    ledger.host.pass(60_000)
    expect((await refusal(reserve(101))).level).toBe('per_trade')
    expect(entries('spend_expired')).toHaveLength(1)
    await ledger.restart()
    expect(await reserve(100, { idempotencyKey: 'one' })).toMatchObject({
      reservationId: 'r1',
      state: 'expired',
    })
  })

  test('are free for all of the decisions of one turn, and each is told of once', async () => {
    await start()
    for (let count = 0; count < 5; count++) await reserve(80)
    ledger.host.pass(60_000)
    const turn = await Promise.allSettled(Array.from({ length: 8 }, () => reserve(80)))
    expect(turn.filter(({ status: how }) => how === 'fulfilled')).toHaveLength(5)
    expect(entries('spend_expired')).toHaveLength(5)
  })

  test('a sweep frees those of users who decide nothing', async () => {
    await start()
    await reserve(80)
    ledger.host.pass(59_999)
    await ledger.sweep()
    expect(entries('spend_expired')).toHaveLength(0)
    ledger.host.pass(1)
    await ledger.sweep()
    expect(entries('spend_expired')).toHaveLength(1)
    await ledger.sweep()
    expect(entries('spend_expired')).toHaveLength(1)
  })

  test('are kept one more ttl by a start, once', async () => {
    await start()
    const { reservationId } = await reserve(80, { ttlSeconds: 100 })
    const other = await reserve(10, { ttlSeconds: 1000 })
    ledger.host.pass(150_000)
    await ledger.restart()
    expect((await status()).userDaily.reservedUsd).toBe('90.00')
    expect(JSON.parse(entries('daemon_started').at(-1)!.details)).toMatchObject({ holdsKept: 1 })
    ledger.host.pass(99_999)
    expect((await status()).userDaily.reservedUsd).toBe('90.00')
    await ledger.restart()
    ledger.host.pass(1)
    await ledger.restart()
    expect((await status()).userDaily.reservedUsd).toBe('10.00')
    expect((await refusal(capture(reservationId))).state).toBe('expired')
    await capture(other.reservationId)
  })
})

describe('what can be counted', () => {
  test('ends at 2^63 - 1 micro-dollars: beyond it an amount is refused and nothing has changed', async () => {
    await start(noon, null)
    const most = 1_000_000_000_000
    for (let count = 0; count < 9; count++) await record(most)
    const before = await status()
    expect(before.exposure.openUsd).toBe('9000000000000.00')
    const last = ledger.lastSeq
    expect(await refusal(record(most))).toMatchObject({ type: 'InvalidParams' })
    expect(await status()).toEqual(before)
    expect(ledger.lastSeq).toBe(last)
    const answer = await ledger.settling.record(ledger.act(), {
      userId: 'alice',
      amountUsd: 2n ** 63n - 1n - 9n * usd(most),
    })
    expect(answer.overLimit).toBe(true)
    expect((await status()).exposure).toMatchObject({ openUsd: '9223372036854.775807', remainingUsd: '0.00' })
    expect((await refusal(record(0.000001))).type).toBe('InvalidParams')
  })
})

describe('a freeze that cannot be written', () => {
  test.each(['user', 'system'] as const)('binds in memory all the same: %s', async (what) => {
    await start()
    await reserve(1)
    ledger.storeFails = true
    const act = ledger.act()
    const freeze =
      what === 'user'
        ? ledger.freeze.freezeUser(act, 'alice', 'stop')
        : ledger.freeze.freezeSystem(act, 'stop')
    expect((await refusal(freeze)).type).toBe('StorageUnavailable')
    expect(act.bindings).toMatchObject([
      { on: what === 'user' ? { userId: 'alice' } : 'everything', grants: true },
    ])
    ledger.storeFails = false
    expect(await refusal(reserve(1))).toMatchObject({ type: 'Frozen', reason: 'stop' })
    expect((await status()).frozen).toMatchObject({ reason: 'stop' })
    expect((await status()).worstCaseUsd).toBe('1.00')
    if (what === 'user') await ledger.freeze.unfreezeUser(ledger.act(), 'alice')
    else await ledger.freeze.unfreezeSystem(ledger.act())
    await reserve(1)
  })

  test.each(['user', 'system'] as const)('is written once the store works again, once: %s', async (what) => {
    await start()
    const freezing = (reason: string) =>
      what === 'user'
        ? ledger.freeze.freezeUser(ledger.act(), 'alice', reason)
        : ledger.freeze.freezeSystem(ledger.act(), reason)
    ledger.storeFails = true
    await refusal(freezing('stop'))
    const since = new Date(ledger.host.wall).toISOString()
    expect((await refusal(ledger.freeze.writeUnwritten(0))).type).toBe('StorageUnavailable')
    ledger.storeFails = false
    if (what === 'user') {
      expect(await ledger.users.get('alice', ledger.act())).toMatchObject({
        frozen: { reason: 'stop', since },
      })
      expect((await ledger.users.list(ledger.act(), '', 10))[0]).toMatchObject({ frozen: { reason: 'stop' } })
    }
    const last = ledger.lastSeq
    // Its time has not come yet.
    await ledger.freeze.writeUnwritten(999)
    expect([ledger.freeze.unwritten, ledger.lastSeq]).toEqual([1, last])
    ledger.host.pass(60_000)
    await ledger.freeze.writeUnwritten(1000)
    await ledger.freeze.writeUnwritten(9000)
    expect([ledger.freeze.unwritten, ledger.lastSeq]).toEqual([0, last + 1])
    expect(ledger.entriesAfter(last)).toMatchObject([
      {
        action: what === 'user' ? 'user_frozen' : 'system_frozen',
        userId: what === 'user' ? 'alice' : null,
        outcome: 'ok',
        peerUid: ledger.act().peer.uid,
        details: JSON.stringify({ reason: 'stop', since, late: true }),
      },
    ])
    await ledger.restart()
    expect(await refusal(reserve(1))).toMatchObject({ type: 'Frozen', reason: 'stop', since })
  })

  const orders = (['user', 'system'] as const).flatMap((what) =>
    (['before', 'behind'] as const).map((order) => ({ what, order })),
  )
  test.each(orders)(
    '$what: one written $order what lifts or follows it gives way',
    async ({ what, order }) => {
      await start()
      const write = () => ledger.freeze.writeUnwritten(Number.POSITIVE_INFINITY)
      const freeze = (reason: string) =>
        what === 'user'
          ? ledger.freeze.freezeUser(ledger.act(), 'alice', reason)
          : ledger.freeze.freezeSystem(ledger.act(), reason)
      const lift = () =>
        what === 'user'
          ? ledger.freeze.unfreezeUser(ledger.act(), 'alice')
          : ledger.freeze.unfreezeSystem(ledger.act())
      /** Both in one turn. */
      const together = (act: () => Promise<unknown>) =>
        Promise.all((order === 'before' ? [write, act] : [act, write]).map((one) => one()))
      const unwritten = async () => {
        ledger.storeFails = true
        await refusal(freeze('old'))
        ledger.storeFails = false
      }
      await unwritten()
      await together(lift)
      await reserve(1)
      await unwritten()
      await together(() => freeze('new'))
      expect(await refusal(reserve(1))).toMatchObject({ reason: 'new' })
      await lift()
      await reserve(1)
      expect(ledger.freeze.unwritten).toBe(0)
    },
  )

  test('one that did not come about for another reason binds nothing', async () => {
    await start()
    const act = ledger.act()
    expect((await refusal(ledger.freeze.freezeUser(act, 'nobody', 'stop'))).type).toBe('NotFound')
    expect(act.bindings).toEqual([])
  })

  test('an unfreeze that cannot be written lifts nothing', async () => {
    await start()
    await ledger.freeze.freezeSystem(ledger.act(), 'stop')
    ledger.storeFails = true
    expect((await refusal(ledger.freeze.unfreezeSystem(ledger.act()))).type).toBe('StorageUnavailable')
    ledger.storeFails = false
    expect((await refusal(reserve(1))).type).toBe('Frozen')
    expect(ledger.freeze.anything).toBe(true)
  })
})

test('a commit that fails grants nothing, counts nothing and leaves no entry', async () => {
  await start()
  await reserve(50, { idempotencyKey: 'one' })
  const before = await status()
  const last = ledger.lastSeq
  ledger.storeFails = true
  expect((await refusal(reserve(20, { idempotencyKey: 'two' }))).type).toBe('StorageUnavailable')
  expect((await refusal(record(20))).type).toBe('StorageUnavailable')
  expect((await refusal(capture('r1'))).type).toBe('StorageUnavailable')
  ledger.storeFails = false
  expect(await status()).toEqual(before)
  expect(ledger.lastSeq).toBe(last)
  expect(await reserve(20, { idempotencyKey: 'two' })).toMatchObject({ reservationId: 'r2' })
})

test('the totals of the store are those of its reservations, positions and days', async () => {
  await start()
  const first = await reserve(100)
  await capture(first.reservationId, { amountUsd: usd(33.333333), final: false })
  const second = await reserve(50)
  await ledger.settling.void(ledger.act(), { reservationId: second.reservationId })
  await record(10)
  await ledger.settling.close(ledger.act(), { userId: 'alice', positionId: 'p1', amountUsd: usd(3.333333) })
  const row = (await ledger.commits.submit(() => perform('spendOfPrimary', 'alice')))!
  expect(row).toMatchObject({
    userHeldMicros: usd(66.666667),
    credentialHeldMicros: usd(66.666667),
    userOpenMicros: usd(40),
    userSpentMicros: usd(43.333333),
    credentialSpentMicros: usd(43.333333),
  })
})
