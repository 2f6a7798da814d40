import { describe, expect, test } from 'vitest'
import { held } from '../../src/ledger/account.ts'
import { dayEndMs, dayMs, dayOf, LedgerClock } from '../../src/ledger/clock.ts'
import { changeAccount, loadAccount, writeAccount } from '../../src/service/spending/accounts.ts'
import { freeDue } from '../../src/service/spending/expiry.ts'
import type { SpendRow, Transaction } from '../../src/store/operations.ts'
import { Host } from './host.ts'
import { Random, runs, seed, timeoutMs } from './support.ts'

const minuteMs = 60_000
const hourMs = 3_600_000
const fiveMinutesMs = 5 * minuteMs
/** Between two looks at the time since boot up to a second passes, in which the wall may be set by up to a second. */
const lagMs = 2 * 1000

const tiers = { free: { perTradeMicros: 100n, dailyMicros: 500n, exposureMicros: 500n } }

describe('days', () => {
  test.each([
    ['1970-01-01T00:00:00.000Z', 0],
    ['2028-02-28T23:59:59.999Z', 21_242],
    ['2028-02-29T00:00:00.000Z', 21_243],
    ['2028-02-29T23:59:59.999Z', 21_243],
    ['2028-03-01T00:00:00.000Z', 21_244],
    ['2100-02-28T23:59:59.999Z', 47_540],
    ['2100-03-01T00:00:00.000Z', 47_541],
  ])('%s is in day %d', (time, day) => {
    expect(dayOf(Date.parse(time))).toBe(day)
    expect(new Date(dayEndMs(day)).toISOString()).toBe(
      `${new Date(Date.parse(time.slice(0, 10)) + dayMs).toISOString().slice(0, 10)}T00:00:00.000Z`,
    )
  })
})

describe('a look at the clock', () => {
  const start = Date.parse('2026-11-23T23:50:00Z')

  test.each<[string, (host: Host) => void, boolean]>([
    ['time that passes', (host) => host.pass(10 * dayMs), false],
    ['a suspend of a week', (host) => host.suspend(7 * dayMs), false],
    ['a step of exactly five minutes ahead', (host) => host.set(fiveMinutesMs), false],
    ['a millisecond more than five minutes ahead', (host) => host.set(fiveMinutesMs + 1), true],
    ['a step of exactly five minutes back', (host) => host.set(-fiveMinutesMs), false],
    ['a millisecond more than five minutes back', (host) => host.set(-fiveMinutesMs - 1), true],
    ['a day ahead', (host) => host.set(dayMs), true],
    ['a year back', (host) => host.set(-365 * dayMs), true],
    [
      'a suspend in which the wall was set as well',
      (host) => {
        host.suspend(hourMs)
        host.set(hourMs)
      },
      true,
    ],
    [
      'a machine that stood still while the wall went on',
      (host) => {
        host.set(6 * minuteMs)
        host.pass(5000)
      },
      true,
    ],
    [
      'a leap second',
      (host) => {
        host.pass(10 * minuteMs)
        host.set(-1000)
      },
      false,
    ],
  ])('%s', (_name, happen, doubted) => {
    const host = new Host(start)
    const clock = new LedgerClock(host.clocks, start)
    expect(clock.look().doubt).toBeNull()
    happen(host)
    const { nowMs, doubt } = clock.look()
    expect(nowMs).toBe(host.wall)
    expect(doubt).toEqual(doubted ? { sinceMs: host.wall } : null)
  })

  test('many small steps add up to a doubt, whether they come at once or one a second', () => {
    for (const between of [0, 5, 999, 1000, 60_000]) {
      const host = new Host(start)
      const clock = new LedgerClock(host.clocks, null)
      let steps = 0
      while (clock.look().doubt === null && steps < 400) {
        host.set(1000)
        host.pass(between)
        steps++
      }
      expect([between, steps <= (fiveMinutesMs + lagMs) / 1000 + 1]).toEqual([between, true])
    }
  })

  test('a wall set back by as long as a suspend took is noticed within the second', () => {
    const host = new Host(start)
    const clock = new LedgerClock(host.clocks, null)
    clock.look()
    host.suspend(hourMs)
    host.set(-hourMs)
    clock.look()
    host.pass(1000)
    expect(clock.look().doubt).not.toBeNull()
  })

  test('a slew that stays within five minutes of the time since boot is not doubted, one that does not is', () => {
    const host = new Host(start)
    const clock = new LedgerClock(host.clocks, null)
    // 500 ppm, the most that NTP slews: five minutes take a week.
    for (let hour = 0; hour < 160; hour++) {
      host.pass(hourMs)
      host.set(1800)
      expect(clock.look().doubt).toBeNull()
    }
    for (let hour = 0; hour < 8; hour++) {
      host.pass(hourMs)
      host.set(1800)
      clock.look()
    }
    expect(clock.look().doubt).not.toBeNull()
  })

  test('a doubt stays until the clock is trusted, also where the wall is set back to what it was', () => {
    const host = new Host(start)
    const clock = new LedgerClock(host.clocks, null)
    host.set(dayMs)
    const since = clock.look().doubt
    host.set(-dayMs)
    host.pass(hourMs)
    expect(clock.look().doubt).toEqual(since)
    clock.trust()
    expect(clock.look().doubt).toBeNull()
  })

  test('trusting takes the wall as it is: from then on it is held against that', () => {
    const host = new Host(start)
    const clock = new LedgerClock(host.clocks, null)
    host.set(400 * dayMs)
    expect(clock.look().doubt).not.toBeNull()
    clock.trust()
    host.pass(hourMs)
    expect(clock.look()).toEqual({ nowMs: host.wall, doubt: null })
    host.set(-400 * dayMs)
    expect(clock.look().doubt).not.toBeNull()
  })

  test.each([
    ['at the last time stored', 0, false],
    ['five minutes before it', -fiveMinutesMs, false],
    ['more than five minutes before it', -fiveMinutesMs - 1, true],
    ['a year before it', -365 * dayMs, true],
    ['a year after it', 365 * dayMs, false],
  ])('a start %s', (_name, byMs, doubted) => {
    const host = new Host(start + byMs)
    const clock = new LedgerClock(host.clocks, start)
    expect(clock.look().doubt).toEqual(doubted ? { sinceMs: host.wall } : null)
  })

  test('a first start, with nothing stored, takes the clock as it is', () => {
    expect(new LedgerClock(new Host(0).clocks, null).look().doubt).toBeNull()
  })
})

type Happening =
  | { kind: 'pass' | 'suspend' | 'set' | 'slew'; ms: number }
  | { kind: 'decide' | 'trust' | 'restart' | 'reboot' }

const interesting = [
  '2026-11-23T12:00:00Z',
  '2026-11-23T23:59:30Z',
  '2027-12-31T23:58:00Z',
  '2028-02-28T23:57:00Z',
  '2028-02-29T23:59:59.500Z',
  '2100-02-28T23:56:00Z',
].map((time) => Date.parse(time))

function sequence(random: Random): { startMs: number; happenings: Happening[] } {
  const happenings: Happening[] = []
  const sign = () => (random.int(2) === 0 ? 1 : -1)
  const size = () => random.pick([500, 1000, 1001, 90_000, 299_000, 300_001, hourMs, dayMs, 366 * dayMs])
  for (let count = random.between(4, 24); count > 0; count--) {
    const ms = random.between(1, size())
    const happening = random.pick<() => Happening>([
      () => ({ kind: 'pass', ms: random.pick([1, 400, 999, 1000, 20_000, 5 * minuteMs, hourMs, dayMs, ms]) }),
      () => ({ kind: 'suspend', ms }),
      () => ({ kind: 'set', ms: sign() * ms }),
      () => ({ kind: 'set', ms: sign() * random.pick([1000, 120_000, 299_999, 300_000, dayMs]) }),
      () => ({ kind: 'slew', ms: sign() * random.between(1, 400) }),
      () => ({ kind: 'decide' }),
      () => ({ kind: 'decide' }),
      () => ({ kind: 'decide' }),
      () => ({ kind: random.pick(['trust', 'restart', 'reboot', 'decide', 'decide']) }),
    ])
    happenings.push(happening())
  }
  happenings.push({ kind: 'decide' })
  return { startMs: random.pick(interesting), happenings }
}

/** What a row needs for the rules of days and expiry; no money moves. */
function rowOf(day: number, nextExpiryMs: number): SpendRow {
  return {
    userId: 'alice',
    tier: 'free',
    perTradeMicros: null,
    dailyMicros: null,
    exposureMicros: null,
    userHeldMicros: 1n,
    userOpenMicros: 0n,
    nextExpiryMs: BigInt(nextExpiryMs),
    userFrozenReason: null,
    userFrozenAtMs: null,
    credentialId: null,
    revokedAtMs: null,
    expiresAtMs: null,
    dailyLimitMicros: null,
    credentialHeldMicros: null,
    day: BigInt(day),
    steppedBackDay: null,
    userSpentMicros: 77n,
    credentialSpentMicros: null,
    laterDays: 0n,
    systemFrozenReason: null,
    systemFrozenAtMs: null,
  }
}

/** Runs a transaction whose queries all answer nothing, and tells which it made. */
function operationsOf(transaction: Transaction<unknown>): string[] {
  const names: string[] = []
  for (;;) {
    try {
      const step = transaction.next([])
      if (step.done) return names
      names.push(step.value.name)
    } catch {
      return names
    }
  }
}

/**
 * Carries out a sequence with the daemon's own rules (the clock, the day of an account, what is due), against a second
 * account of what time it really is: the time since boot, from where the wall was last taken for right. Answers what
 * went wrong, null where nothing did.
 */
function check({ startMs, happenings }: { startMs: number; happenings: Happening[] }): string | null {
  const host = new Host(startMs)
  let clock = new LedgerClock(host.clocks, null)
  let trueOffset = host.wall - host.sinceBoot
  let ledgerDay = dayOf(host.wall)
  let lastStoredMs = host.wall
  let suspendedAtMonotonic = Number.NEGATIVE_INFINITY
  /** Whether a doubt must be there, and whether one may be there. */
  let must = false
  let may = false
  for (const [index, happening] of happenings.entries()) {
    const wrong = (what: string) => `${what}, at ${index}`
    if (happening.kind === 'pass') host.pass(happening.ms)
    else if (happening.kind === 'suspend') {
      host.suspend(happening.ms)
      suspendedAtMonotonic = host.monotonic
    } else if (happening.kind === 'set') host.set(happening.ms)
    else if (happening.kind === 'slew') {
      host.pass(hourMs)
      host.set(happening.ms)
    } else if (happening.kind === 'trust') {
      clock.trust()
      ledgerDay = dayOf(host.wall)
      lastStoredMs = host.wall
      trueOffset = host.wall - host.sinceBoot
      must = may = false
    } else if (happening.kind === 'restart' || happening.kind === 'reboot') {
      if (happening.kind === 'reboot') host.reboot()
      clock = new LedgerClock(host.clocks, lastStoredMs)
      trueOffset = host.wall - host.sinceBoot
      must = may = lastStoredMs - host.wall > fiveMinutesMs
      if ((clock.look().doubt !== null) !== must) return wrong('a start was judged wrongly')
      lastStoredMs = host.wall
    } else {
      const ahead = host.wall - host.sinceBoot - trueOffset
      if (Math.abs(ahead) > fiveMinutesMs) may = true
      if (ahead > fiveMinutesMs + lagMs) must = true
      // A wall set back by about as long as a suspend took stands still, like the monotonic clock: it is noticed within
      // the second, and meanwhile can open and expire nothing.
      const hidden = host.monotonic - suspendedAtMonotonic < 1000
      if (ahead < -fiveMinutesMs - lagMs && !hidden) must = true
      const { nowMs, doubt } = clock.look()
      if (nowMs !== host.wall) return wrong('another time was told than the wall has')
      if (doubt === null && must) return wrong('a clock that was moved is believed')
      if (doubt !== null && !may) return wrong('a clock that was not moved is doubted')
      if (doubt !== null) must = true
      const todayMs = doubt === null ? nowMs : null
      const row = rowOf(ledgerDay, host.wall)
      const due =
        operationsOf(freeDue({ audit: () => undefined, afterCommit: () => undefined }, row, todayMs)).length >
        0
      if (due === (doubt !== null))
        return wrong(due ? 'a hold expires in doubt' : 'a hold that is over is kept')
      const loading = loadAccount(row, tiers, todayMs).next()
      if (!loading.done) return wrong('the account asked for more')
      const { day, account } = loading.value
      const opens = operationsOf(writeAccount(changeAccount(loading.value, held(1n), null))).includes(
        'ledgerDay',
      )
      if (opens !== (day !== ledgerDay)) return wrong('the day in use is not stored')
      if (day < ledgerDay) return wrong('a day was reopened')
      if (day > ledgerDay && doubt !== null) return wrong('a day opens in doubt')
      const latest = dayOf(trueOffset + host.sinceBoot + fiveMinutesMs + lagMs)
      if (day > ledgerDay && day > latest) return wrong('a day opens before its time')
      if ((account.user.spentMicros === 77n) !== (day === ledgerDay))
        return wrong('spend of the wrong day counts')
      ledgerDay = day
      lastStoredMs = host.wall
    }
  }
  return null
}

/** The fewest happenings that still go wrong. */
function smallest(failing: ReturnType<typeof sequence>): ReturnType<typeof sequence> {
  for (let index = 0; index < failing.happenings.length; index++) {
    const less = { ...failing, happenings: failing.happenings.filter((_, other) => other !== index) }
    if (check(less) !== null) return smallest(less)
  }
  return failing
}

test(
  'in 100,000 sequences no clock that was moved opens a day or expires a hold, and no day comes again',
  () => {
    const random = new Random(seed)
    for (let run = 0; run < runs(100_000); run++) {
      const happenings = sequence(random)
      if (check(happenings) === null) continue
      const found = smallest(happenings)
      expect.fail(`PURSER_TEST_SEED=${seed}: ${check(found)} of ${JSON.stringify(found)}`)
    }
  },
  timeoutMs,
)
