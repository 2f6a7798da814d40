import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AuditView } from '../ledger/spend-flow.ts'
import { awayFromMidnight, SpendFlow } from '../ledger/spend-flow.ts'
import { Random, runs, seed, timeoutMs } from '../ledger/support.ts'
import { RawClient } from '../support/raw-client.ts'

const clientsCount = 64
/** Requests of a client in one race: far more in all than any limit lets pass. */
const attempts = 4
const wide = '1000000'

/** Whether so much may be spent; the same race is run with purser behind it, and with the control. */
type Limiter = (client: number, amountUsd: number, random: Random) => Promise<boolean>

/** All clients at once, each some of its requests in one go and some one after the other. How many passed. */
async function race(limiter: Limiter, amountUsd: number, random: Random): Promise<number> {
  let passed = 0
  const spend = async (client: number) => {
    if (await limiter(client, amountUsd, random)) passed++
  }
  const run = async (client: number) => {
    for (let left = attempts; left > 0; ) {
      const together = Math.min(left, random.between(1, 3))
      await Promise.all(Array.from({ length: together }, () => spend(client)))
      left -= together
    }
  }
  await Promise.all(Array.from({ length: clientsCount }, (_, client) => run(client)))
  return passed
}

/** The usual limiter: reads what is used, decides, writes what is used then; each an answer of a store. */
function naive(limitUsd: number, random: Random): Limiter {
  let usedUsd = 0
  const store = async <T>(query: () => T): Promise<T> => {
    for (let turns = random.between(1, 3); turns > 0; turns--) await new Promise(setImmediate)
    return query()
  }
  return async (_client, amountUsd) => {
    const used = await store(() => usedUsd)
    if (used + amountUsd > limitUsd) return false
    await store(() => {
      usedUsd += amountUsd
    })
    return true
  }
}

const say = (round: number) => `PURSER_TEST_SEED=${seed}, round ${round}`

test('the control: a limiter that checks and then records lets more pass than its limit, at every seed', async () => {
  for (let round = 0; round < 20; round++) {
    const random = new Random(seed + round)
    const passed = await race(naive(1000, random), 10, random)
    expect(passed, say(round)).toBeGreaterThan(100)
  }
})

const money = (text: string) => {
  const [whole = '', fraction = ''] = text.split('.')
  return BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(6, '0'))
}

/** Every entry of the user, oldest first. */
async function allEntries(flow: SpendFlow, userId: string): Promise<AuditView[]> {
  const entries: AuditView[] = []
  let cursor: string | undefined
  do {
    const page = await flow.call('audit.query', {
      userId,
      limit: 1000,
      ...(cursor === undefined ? {} : { cursor }),
    })
    entries.push(...page.entries)
    cursor = page.nextCursor ?? undefined
  } while (cursor !== undefined)
  return entries.reverse()
}

/** Adds up the log in its order, which is the order of execution: no entry of it may leave more than the limits. */
async function replay(
  flow: SpendFlow,
  userId: string,
  limits: { daily: string; exposure: string; credentials?: Record<number, string> },
): Promise<void> {
  const holds = new Map<string, { credentialId: number | null; held: bigint }>()
  const spent = new Map<number | null, bigint>()
  let open = 0n
  let spentInAll = 0n
  const heldBy = (credentialId?: number) =>
    [...holds.values()]
      .filter((hold) => credentialId === undefined || hold.credentialId === credentialId)
      .reduce((total, { held }) => total + held, 0n)
  for (const { seq, action, outcome, credentialId, details } of await allEntries(flow, userId)) {
    if (outcome !== 'ok') continue
    const usd = (name: string) => money(details[name] as string)
    const hold = holds.get(details['reservationId'] as string)
    if (action === 'spend_reserved')
      holds.set(details['reservationId'] as string, { credentialId, held: usd('amountUsd') })
    else if (action === 'spend_captured') {
      hold!.held -= usd('amountUsd') + usd('releasedUsd')
      open += usd('amountUsd')
      spentInAll += usd('amountUsd')
      spent.set(credentialId, (spent.get(credentialId) ?? 0n) + usd('amountUsd'))
    } else if (action === 'spend_voided' || action === 'spend_expired') hold!.held -= usd('releasedUsd')
    else if (action === 'position_closed') open -= usd('closedUsd')
    else continue
    expect(spentInAll + heldBy() <= money(limits.daily), `daily at ${seq}, PURSER_TEST_SEED=${seed}`).toBe(
      true,
    )
    expect(open + heldBy() <= money(limits.exposure), `exposure at ${seq}, PURSER_TEST_SEED=${seed}`).toBe(
      true,
    )
    for (const [id, limit] of Object.entries(limits.credentials ?? {}))
      expect(
        (spent.get(Number(id)) ?? 0n) + heldBy(Number(id)) <= money(limit),
        `credential ${id} at ${seq}, PURSER_TEST_SEED=${seed}`,
      ).toBe(true)
  }
}

const launchers = {
  'a store that answers at once': { rounds: 5, launcher: undefined },
  'a store that answers by promises': {
    rounds: 1,
    launcher: fileURLToPath(new URL('../support/delayed-purserd', import.meta.url)),
  },
}

describe.each(Object.entries(launchers))('64 clients, %s', (_name, { rounds, launcher }) => {
  let flow: SpendFlow
  let clients: RawClient[]
  beforeAll(async () => {
    await awayFromMidnight(25_000)
    // The shortest delays there are: it is the order of things that counts here.
    flow = await SpendFlow.start(
      launcher === undefined ? {} : { launcher, env: { PURSER_TEST_DELAY_MS: '0.2' } },
    )
    clients = Array.from({ length: clientsCount }, () => new RawClient(flow.purser.socketPath))
  })
  afterAll(async () => {
    for (const client of clients) client.close()
    await flow[Symbol.asyncDispose]()
  })

  /** purser as a limiter of one user's spending; refusals must be of the level expected. */
  function purser(
    userId: string,
    levels: readonly string[],
    credentials: readonly (number | undefined)[] = [undefined],
  ): Limiter {
    return async (client, amountUsd, random) => {
      const credentialId = random.pick(credentials)
      const { result, error } = await clients[client]!.call('spend.reserve', {
        userId,
        amountUsd: amountUsd.toFixed(2),
        ttlSeconds: 3600,
        ...(credentialId === undefined ? {} : { credentialId }),
      })
      if (error === undefined) {
        expect(result.state).toBe('held')
        return true
      }
      expect(error.data).toMatchObject({ type: 'SpendLimitExceeded' })
      expect(levels).toContain(error.data.level)
      expect(money(error.data.availableUsd) < money(error.data.requestedUsd)).toBe(true)
      return false
    }
  }

  const each = Array.from({ length: runs(rounds) }, (_, round) => round)
  const limits = { perTradeUsd: wide, dailyUsd: wide, exposureUsd: wide }

  test.each(each)(
    'per trade, round %i: what is above it passes for nobody, what is not for everybody',
    async (round) => {
      const random = new Random(seed + round)
      const userId = await flow.user({ limits: { ...limits, perTradeUsd: '10' } })
      expect(await race(purser(userId, ['per_trade']), 10.01, random)).toBe(0)
      expect(await race(purser(userId, []), 10, random), say(round)).toBe(clientsCount * attempts)
    },
    timeoutMs,
  )

  test.each(each)(
    'a credential and its day, round %i: exactly 100',
    async (round) => {
      const random = new Random(seed + round)
      const userId = await flow.user({ limits })
      const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '1000' })
      const passed = await race(purser(userId, ['credential_daily'], [undefined, credentialId]), 10, random)
      expect(passed, say(round)).toBe(100)
      expect((await flow.status(userId)).credentialDaily).toMatchObject({
        reservedUsd: '1000.00',
        percent: 100,
      })
      await replay(flow, userId, { daily: wide, exposure: wide, credentials: { [credentialId]: '1000' } })
    },
    timeoutMs,
  )

  test.each(each)(
    'a user and its day, by any of its credentials, round %i: exactly 100',
    async (round) => {
      const random = new Random(seed + round)
      const userId = await flow.user({ limits: { ...limits, dailyUsd: '1000' } })
      const credentials = [await flow.credential(userId), await flow.credential(userId), undefined]
      expect(await race(purser(userId, ['user_daily'], credentials), 10, random), say(round)).toBe(100)
      // The control, in the same race: it lets more pass.
      expect(await race(naive(1000, random), 10, random), say(round)).toBeGreaterThan(100)
      await replay(flow, userId, { daily: '1000', exposure: wide })
    },
    timeoutMs,
  )

  test.each(each)(
    'exposure, round %i: exactly 100, and as many more as positions are closed',
    async (round) => {
      const random = new Random(seed + round)
      const userId = await flow.user({ limits: { ...limits, exposureUsd: '1000' } })
      const limiter = purser(userId, ['exposure'])
      expect(await race(limiter, 10, random), say(round)).toBe(100)
      const { reservations } = await flow.call('reservations.list', { userId, limit: 1000 })
      for (const { reservationId } of reservations.slice(0, 7)) {
        const { positionId } = await flow.capture(reservationId)
        await flow.call('positions.close', { userId, positionId })
      }
      expect(await race(limiter, 10, random), say(round)).toBe(7)
      await replay(flow, userId, { daily: wide, exposure: '1000' })
    },
    timeoutMs,
  )

  test.each(each)(
    'all levels together, round %i: exactly what the narrowest lets pass',
    async (round) => {
      const random = new Random(seed + round)
      const userId = await flow.user({ limits: { perTradeUsd: '10', dailyUsd: '800', exposureUsd: '600' } })
      const a = await flow.credential(userId, { dailySpendLimitUsd: '200' })
      const b = await flow.credential(userId, { dailySpendLimitUsd: '300' })
      const c = await flow.credential(userId)
      const limiter = purser(userId, ['credential_daily', 'user_daily', 'exposure'], [a, b, c, undefined])
      expect(await race(purser(userId, ['per_trade'], [a, b, c]), 10.01, random)).toBe(0)
      expect(await race(limiter, 10, random), say(round)).toBe(60)
      const { reservations } = await flow.call('reservations.list', { userId, limit: 1000 })
      for (const { reservationId } of reservations) await flow.capture(reservationId)
      const { positions } = await flow.call('positions.list', { userId, limit: 1000 })
      for (const { positionId } of positions) await flow.call('positions.close', { userId, positionId })
      // Nothing is open any more, but the day is used up to three quarters; c alone has no limit of its own.
      expect(await race(purser(userId, ['user_daily'], [c]), 10, random), say(round)).toBe(20)
      await replay(flow, userId, { daily: '800', exposure: '600', credentials: { [a]: '200', [b]: '300' } })
    },
    timeoutMs,
  )

  test.each(each)(
    'holds, fills, voids and closes by all of them at once, round %i',
    async (round) => {
      const random = new Random(seed + round)
      const limit = { daily: '500', exposure: '200', credentials: {} as Record<number, string> }
      const userId = await flow.user({
        limits: { perTradeUsd: '60', dailyUsd: limit.daily, exposureUsd: limit.exposure },
      })
      const credentialId = await flow.credential(userId, { dailySpendLimitUsd: '300' })
      limit.credentials[credentialId] = '300'
      const other = await flow.credential(userId)
      const run = async (client: RawClient) => {
        for (let times = 0; times < 3; times++) {
          const amountUsd = (random.between(1, 6000) / 100).toFixed(2)
          const id = `${random.int(1e9)}`
          const asked = {
            userId,
            amountUsd,
            idempotencyKey: id,
            credentialId: random.pick([credentialId, other]),
          }
          // The same act twice at once, as a bot does whose first try was slow.
          const [first, again] = await Promise.all([
            client.call('spend.reserve', asked),
            random.pick(clients).call('spend.reserve', asked),
          ])
          if (first.result === undefined || again.result === undefined) continue
          expect(again.result.reservationId).toBe(first.result.reservationId)
          const { reservationId } = first.result
          const part = (Number(amountUsd) / 2).toFixed(2)
          const how = random.int(4)
          if (how === 0) await client.call('spend.void', { reservationId })
          else {
            await client.call('spend.capture', {
              reservationId,
              amountUsd: part,
              tradeId: id,
              final: how === 1,
            })
            if (how === 2) await client.call('spend.capture', { reservationId })
            await client.call('positions.close', { userId, tradeId: id })
          }
        }
      }
      await Promise.all(clients.map(run))
      await replay(flow, userId, limit)
    },
    timeoutMs,
  )
})
