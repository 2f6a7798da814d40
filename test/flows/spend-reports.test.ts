import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Result } from '../ledger/spend-flow.ts'
import { awayFromMidnight, nextMidnight, SpendFlow } from '../ledger/spend-flow.ts'
import { hardhatKeys } from '../support/flow.ts'

let flow: SpendFlow
beforeAll(async () => {
  await awayFromMidnight(20_000)
  flow = await SpendFlow.start()
})
afterAll(async () => flow[Symbol.asyncDispose]())

describe('spend.status', () => {
  test('every figure of a user who has done nothing', async () => {
    const userId = await flow.user({ tier: 'pro' })
    expect(await flow.status(userId)).toEqual({
      userId,
      tier: 'pro',
      frozen: null,
      perTrade: { limitUsd: '2000.00' },
      credentialDaily: null,
      userDaily: {
        limitUsd: '10000.00',
        spentUsd: '0.00',
        reservedUsd: '0.00',
        remainingUsd: '10000.00',
        percent: 0,
        resetsAt: nextMidnight(),
      },
      exposure: {
        limitUsd: '10000.00',
        openUsd: '0.00',
        reservedUsd: '0.00',
        remainingUsd: '10000.00',
        percent: 0,
      },
      worstCaseUsd: '10000.00',
      unbounded: [],
    })
  })

  test('every figure of one who has done something', async () => {
    const userId = await flow.user()
    const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '150' })
    const other = await flow.credential(userId)
    const { positionId } = await flow.record(userId, '60')
    await flow.call('positions.close', { userId, positionId, amountUsd: '50' })
    await flow.record(userId, '33.333333', { credentialId: other })
    await flow.reserve(userId, '40')
    const resetsAt = nextMidnight()
    const userDaily = {
      limitUsd: '500.00',
      spentUsd: '93.333333',
      reservedUsd: '40.00',
      remainingUsd: '366.666667',
      percent: 26.66,
      resetsAt,
    }
    const expected = {
      credentialDaily: {
        limitUsd: '150.00',
        spentUsd: '60.00',
        reservedUsd: '40.00',
        remainingUsd: '50.00',
        percent: 66.66,
        resetsAt,
      },
      userDaily,
      exposure: {
        limitUsd: '500.00',
        openUsd: '43.333333',
        reservedUsd: '40.00',
        remainingUsd: '416.666667',
        percent: 16.66,
      },
      // Open, held, and the smaller of what is left of the day and of exposure.
      worstCaseUsd: '450.00',
    }
    expect(await flow.status(userId)).toMatchObject(expected)
    expect(await flow.status(userId, credentialId)).toMatchObject(expected)
    expect(await flow.status(userId, other)).toMatchObject({ credentialDaily: null, userDaily })
  })

  test('percent is rounded down to two places, and 100 only where all is used', async () => {
    const userId = await flow.user({ limits: { perTradeUsd: '3', dailyUsd: '3', exposureUsd: '7' } })
    await flow.record(userId, '2.999999')
    const nearly = await flow.status(userId)
    expect([nearly.userDaily.percent, nearly.exposure.percent]).toEqual([99.99, 42.85])
    await flow.record(userId, '0.000001')
    expect((await flow.status(userId)).userDaily.percent).toBe(100)
  })

  test('the worst case is what is left of exposure where that is less', async () => {
    const userId = await flow.user({ limits: { exposureUsd: '200' } })
    await flow.record(userId, '60')
    expect((await flow.status(userId)).worstCaseUsd).toBe('200.00')
    await flow.record(userId, '300')
    expect((await flow.status(userId)).worstCaseUsd).toBe('360.00')
  })

  test('frozen, no further part is in the worst case', async () => {
    const userId = await flow.user()
    const { reservationId } = await flow.reserve(userId, '40')
    await flow.record(userId, '60')
    expect((await flow.status(userId)).worstCaseUsd).toBe('500.00')
    await flow.call('users.freeze', { userId, reason: 'too wild' })
    expect(await flow.status(userId)).toMatchObject({
      frozen: { reason: 'too wild', since: expect.any(String) },
      worstCaseUsd: '100.00',
    })
    await flow.capture(reservationId)
    expect((await flow.status(userId)).worstCaseUsd).toBe('100.00')
    await flow.call('users.unfreeze', { userId })
    await flow.call('system.freeze', { reason: 'all' })
    expect(await flow.status(userId)).toMatchObject({ frozen: { reason: 'all' }, worstCaseUsd: '100.00' })
    await flow.call('system.unfreeze')
    expect(await flow.status(userId)).toMatchObject({ frozen: null, worstCaseUsd: '500.00' })
  })

  test('says why the worst case may not hold', async () => {
    const unbounded = async (userId: string) => (await flow.status(userId)).unbounded
    const userId = await flow.user()
    await flow.credential(userId)
    expect(await unbounded(userId)).toEqual([])
    const [key, other] = hardhatKeys
    const exportable = await flow.credential(userId, { privateKey: key.privateKey })
    expect(await unbounded(userId)).toEqual(['private_key_retrievable', 'sell_without_floor'])
    await flow.call('credentials.update', { userId, credentialId: exportable, privateKeyPolicy: 'sign-only' })
    expect(await unbounded(userId)).toEqual(['sell_without_floor'])
    await flow.call('credentials.revoke', { userId, credentialId: exportable })
    expect(await unbounded(userId)).toEqual([])
    // A key that has left stays out, whatever the policy says afterwards.
    const left = await flow.credential(userId, { privateKey: other.privateKey })
    await flow.call('credentials.retrieve', { userId, credentialId: left })
    await flow.call('credentials.update', { userId, credentialId: left, privateKeyPolicy: 'sign-only' })
    expect(await unbounded(userId)).toEqual(['private_key_retrievable', 'sell_without_floor'])
  })
})

describe('spend.usage', () => {
  test('unrevoked credentials with a daily limit, most used first, page by page', async () => {
    const userId = await flow.user({
      email: 'alice@example.org',
      limits: { dailyUsd: '100000', exposureUsd: '100000', perTradeUsd: '1000' },
    })
    const spent = [30, 0, 95, 30, 120, 99.999, 0, 1]
    const ids: number[] = []
    for (const amount of spent) {
      const credentialId = await flow.credential(userId, {
        dailySpendLimitUsd: '100',
        name: `bot ${ids.length}`,
      })
      ids.push(credentialId)
      if (amount > 0) await flow.record(userId, amount, { credentialId })
    }
    await flow.reserve(userId, '5', { credentialId: ids[7], ttlSeconds: 600 })
    await flow.credential(userId)
    const revoked = await flow.credential(userId, { dailySpendLimitUsd: '100' })
    await flow.record(userId, '50', { credentialId: revoked })
    await flow.call('credentials.revoke', { userId, credentialId: revoked })
    const nothingAllowed = await flow.credential(userId, { dailySpendLimitUsd: '0' })

    const order = [4, 5, 2, 0, 3, 7, 1, 6].map((index) => ids[index]!)
    // 100 percent of nothing comes before what is used up less.
    order.splice(1, 0, nothingAllowed)
    for (const limit of [1, 3, 1000]) {
      const seen: Result[] = []
      let cursor: string | null = null
      do {
        const page: Result = await flow.call('spend.usage', { limit, ...(cursor === null ? {} : { cursor }) })
        expect(page.usage.length).toBeLessThanOrEqual(limit)
        seen.push(...page.usage)
        cursor = page.nextCursor
      } while (cursor !== null)
      const ofUser = seen.filter((row) => row.userId === userId)
      expect(ofUser.map(({ credentialId }) => credentialId)).toEqual(order)
      expect(ofUser[0]).toEqual({
        userId,
        email: 'alice@example.org',
        credentialId: ids[4],
        name: 'bot 4',
        spentUsd: '120.00',
        limitUsd: '100.00',
        percent: 120,
      })
      expect(ofUser.map(({ percent }) => percent)).toEqual([120, 100, 99.99, 95, 30, 30, 6, 0, 0])
      // What is held is in the percent, not in what was spent.
      expect(ofUser[6]).toMatchObject({ spentUsd: '1.00' })
      expect(seen.map(({ credentialId }) => credentialId)).not.toContain(revoked)
    }
  })

  test('goes on behind a cursor also where more than 10^20 percent are used', async () => {
    await using alone = await SpendFlow.start()
    const userId = await alone.user()
    for (const amountUsd of ['1000000000000', '900000000000', '1']) {
      const credentialId = await alone.credential(userId, { dailySpendLimitUsd: '0.000001' })
      await alone.record(userId, amountUsd, { credentialId })
    }
    const percents: number[] = []
    let cursor: string | undefined
    do {
      const page = await alone.call('spend.usage', { limit: 1, ...(cursor === undefined ? {} : { cursor }) })
      percents.push(page.usage[0].percent)
      cursor = page.nextCursor ?? undefined
    } while (cursor !== undefined)
    expect(percents).toEqual([1e20, 9e19, 1e8])
  })

  test('a cursor of another method is InvalidParams', async () => {
    for (const cursor of ['5', 'x/5', '1.234/5', '-1/5', '1/', `${'9'.repeat(22)}/1`])
      expect(await flow.refused('spend.usage', { cursor })).toMatchObject({ issues: [{ path: 'cursor' }] })
  })
})

describe('lists', () => {
  test('reservations by state, oldest first, page by page; held is the default', async () => {
    const userId = await flow.user()
    const made: string[] = []
    for (let count = 0; count < 7; count++)
      made.push((await flow.reserve(userId, '1', { ttlSeconds: 600 })).reservationId)
    await flow.void(made[2]!)
    await flow.capture(made[4]!)
    const held = made.filter((_, index) => index !== 2 && index !== 4)
    for (const limit of [1, 2, 5, 100]) {
      const seen: string[] = []
      let cursor: string | null = null
      do {
        const page: Result = await flow.call('reservations.list', {
          userId,
          limit,
          ...(cursor === null ? {} : { cursor }),
        })
        seen.push(...page.reservations.map(({ reservationId }: Result) => reservationId))
        cursor = page.nextCursor
      } while (cursor !== null)
      expect(seen).toEqual(held)
    }
    const ids = async (more: object) =>
      (await flow.call('reservations.list', { userId, ...more })).reservations.map(
        ({ reservationId }: Result) => reservationId,
      )
    expect(await ids({ state: 'voided' })).toEqual([made[2]])
    expect(await ids({ state: 'captured' })).toEqual([made[4]])
    expect(await ids({ state: 'expired' })).toEqual([])
    expect(await ids({ signed: false })).toEqual(held)
    expect(await ids({ signed: true })).toEqual([])
    expect(await ids({ cursor: '999999999' })).toEqual([])
  })

  test('positions by state, oldest first, page by page; all without one', async () => {
    const userId = await flow.user()
    const made: string[] = []
    for (let count = 0; count < 7; count++)
      made.push((await flow.record(userId, '1', { tradeId: `t${count}` })).positionId)
    for (const index of [1, 5]) await flow.call('positions.close', { userId, positionId: made[index] })
    for (const [state, expected] of [
      [undefined, made],
      ['open', made.filter((_, index) => index !== 1 && index !== 5)],
      ['closed', [made[1], made[5]]],
    ] as const)
      for (const limit of [1, 3, 7]) {
        const seen: string[] = []
        let cursor: string | null = null
        do {
          const page: Result = await flow.call('positions.list', {
            userId,
            limit,
            ...(state === undefined ? {} : { state }),
            ...(cursor === null ? {} : { cursor }),
          })
          seen.push(...page.positions.map(({ positionId }: Result) => positionId))
          cursor = page.nextCursor
        } while (cursor !== null)
        expect(seen).toEqual(expected)
      }
  })

  test("show the user asked for and nobody else's", async () => {
    const [alice, bob] = [await flow.user(), await flow.user()]
    await flow.reserve(alice, '1')
    await flow.record(alice, '1')
    expect((await flow.call('reservations.list', { userId: bob })).reservations).toEqual([])
    expect((await flow.call('positions.list', { userId: bob })).positions).toEqual([])
  })
})
