import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Account, Change, Level } from '../../src/ledger/account.ts'
import {
  applied,
  captured,
  closed,
  denial,
  headroom,
  held,
  recorded,
  released,
  remainingOf,
  worstCaseMicros,
} from '../../src/ledger/account.ts'
import { maxUsdMicros, percentOf } from '../../src/money.ts'
import { runs, seed } from './support.ts'

/** The smaller one; Math.min takes no bigint. */
function least(one: bigint, other: bigint): bigint {
  if (one < other) return one
  return other
}

const options = { numRuns: runs(3000), seed }

const usd = (dollars: number) => BigInt(dollars) * 1_000_000n

/** Small numbers meet each other often; large ones are past 2^53, where a double would round. */
const micros = fc.oneof(
  fc.bigInt({ min: 0n, max: 20n }),
  fc.bigInt({ min: 0n, max: maxUsdMicros }),
  fc.bigInt({ min: 2n ** 53n - 2n, max: 2n ** 53n + 2n }),
)
const amount = micros.map((value) => (value === 0n ? 1n : value))

const accounts: fc.Arbitrary<Account> = fc.record({
  limits: fc.record({ perTradeMicros: micros, dailyMicros: micros, exposureMicros: micros }),
  user: fc.record({ heldMicros: micros, openMicros: micros, spentMicros: micros }),
  credential: fc.option(
    fc.record({
      dailyLimitMicros: fc.option(micros, { nil: null }),
      heldMicros: micros,
      spentMicros: micros,
    }),
    { nil: null },
  ),
})

function account(overrides: {
  limits?: [perTrade: number, daily: number, exposure: number]
  user?: [heldUsd: number, openUsd: number, spentUsd: number]
  credential?: [limit: number | null, heldUsd: number, spentUsd: number]
}): Account {
  const [perTrade, daily, exposure] = overrides.limits ?? [100, 500, 500]
  const [userHeld, open, spent] = overrides.user ?? [0, 0, 0]
  const { credential } = overrides
  return {
    limits: { perTradeMicros: usd(perTrade), dailyMicros: usd(daily), exposureMicros: usd(exposure) },
    user: { heldMicros: usd(userHeld), openMicros: usd(open), spentMicros: usd(spent) },
    credential:
      credential === undefined
        ? null
        : {
            dailyLimitMicros: credential[0] === null ? null : usd(credential[0]),
            heldMicros: usd(credential[1]),
            spentMicros: usd(credential[2]),
          },
  }
}

/** Every level's limit and use, spelt out from the contract: the order is the order of refusal. */
function levels({ limits, user, credential }: Account): [Level, limit: bigint, used: bigint][] {
  const all: [Level, bigint, bigint][] = [['per_trade', limits.perTradeMicros, 0n]]
  if (credential?.dailyLimitMicros != null)
    all.push([
      'credential_daily',
      credential.dailyLimitMicros,
      credential.heldMicros + credential.spentMicros,
    ])
  all.push(['user_daily', limits.dailyMicros, user.heldMicros + user.spentMicros])
  all.push(['exposure', limits.exposureMicros, user.heldMicros + user.openMicros])
  return all
}

describe('headroom', () => {
  test.each([
    [10n, 0n, 10n],
    [10n, 9n, 1n],
    [10n, 10n, 0n],
    [10n, 11n, 0n],
    [0n, 0n, 0n],
    [0n, 5n, 0n],
    [9_007_199_254_740_993n, 1n, 9_007_199_254_740_992n],
  ])('of %s with %s used is %s', (limit, used, left) => {
    expect(headroom(limit, used)).toBe(left)
  })

  test('is what is missing to the limit, and never below 0', () => {
    const property = fc.property(micros, micros, (limit, used) => {
      const left = headroom(limit, used)
      expect(left >= 0n).toBe(true)
      expect(left === 0n ? used >= limit : used + left === limit).toBe(true)
    })
    fc.assert(property, options)
  })
})

describe('denial', () => {
  test.each<[string, Account, bigint, ReturnType<typeof denial>]>([
    ['nothing used', account({}), usd(100), null],
    [
      'above the trade',
      account({}),
      usd(100) + 1n,
      { level: 'per_trade', limitMicros: usd(100), usedMicros: 0n, availableMicros: usd(100) },
    ],
    [
      'per_trade comes before every other level',
      account({ limits: [1, 0, 0], credential: [0, 0, 0] }),
      usd(2),
      { level: 'per_trade', limitMicros: usd(1), usedMicros: 0n, availableMicros: usd(1) },
    ],
    [
      'credential_daily before user_daily and exposure',
      account({ limits: [100, 0, 0], credential: [60, 20, 30] }),
      usd(11),
      { level: 'credential_daily', limitMicros: usd(60), usedMicros: usd(50), availableMicros: usd(10) },
    ],
    [
      'user_daily before exposure',
      account({ limits: [100, 60, 0], user: [20, 0, 30] }),
      usd(11),
      { level: 'user_daily', limitMicros: usd(60), usedMicros: usd(50), availableMicros: usd(10) },
    ],
    [
      'exposure counts what is open and held, not what was spent',
      account({ limits: [100, 500, 60], user: [20, 30, 400] }),
      usd(11),
      { level: 'exposure', limitMicros: usd(60), usedMicros: usd(50), availableMicros: usd(10) },
    ],
    ['exactly what is left', account({ limits: [100, 60, 60], user: [20, 30, 30] }), usd(10), null],
    [
      'a passed limit leaves nothing',
      account({ limits: [100, 60, 500], user: [0, 0, 100] }),
      1n,
      { level: 'user_daily', limitMicros: usd(60), usedMicros: usd(100), availableMicros: 0n },
    ],
    [
      'a credential without a limit of its own adds no level',
      account({ credential: [null, 9999, 9999] }),
      usd(100),
      null,
    ],
  ])('%s', (_name, state, amountMicros, expected) => {
    expect(denial(state, amountMicros)).toEqual(expected)
  })

  test('names the first level, in the order of the contract, that an amount would pass', () => {
    const property = fc.property(accounts, amount, (state, amountMicros) => {
      const first = levels(state).find(([, limit, used]) => used + amountMicros > limit)
      const refused = denial(state, amountMicros)
      if (first === undefined) expect(refused).toBeNull()
      else {
        const [level, limitMicros, usedMicros] = first
        expect(refused).toEqual({
          level,
          limitMicros,
          usedMicros,
          availableMicros: usedMicros >= limitMicros ? 0n : limitMicros - usedMicros,
        })
      }
    })
    fc.assert(property, options)
  })

  test('what it says is available is granted, and one micro-dollar more is not', () => {
    const property = fc.property(accounts, amount, (state, amountMicros) => {
      const refused = denial(state, amountMicros)
      if (refused === null) return
      expect(amountMicros > refused.availableMicros).toBe(true)
      const justThat = refused.availableMicros === 0n ? null : denial(state, refused.availableMicros)
      expect(justThat?.level).not.toBe(refused.level)
      expect(denial(state, refused.availableMicros + 1n)).not.toBeNull()
    })
    fc.assert(property, options)
  })
})

test('remaining is the headroom of every level, and the whole limit for a trade', () => {
  const property = fc.property(accounts, (state) => {
    const left = new Map(levels(state).map(([level, limit, used]) => [level, headroom(limit, used)]))
    expect(remainingOf(state)).toEqual({
      perTradeMicros: left.get('per_trade'),
      credentialDailyMicros: left.get('credential_daily') ?? null,
      userDailyMicros: left.get('user_daily'),
      exposureMicros: left.get('exposure'),
    })
  })
  fc.assert(property, options)
})

describe('worst case', () => {
  test.each<[string, Account, boolean, bigint]>([
    ['nothing used: what a day allows', account({ limits: [100, 300, 500] }), false, usd(300)],
    ['nothing used: what exposure allows', account({ limits: [100, 500, 300] }), false, usd(300)],
    ['open, held and further', account({ user: [20, 30, 400] }), false, usd(20 + 30 + 80)],
    ['no further part while frozen', account({ user: [20, 30, 400] }), true, usd(50)],
    ['a passed limit is told as it is', account({ user: [0, 900, 900] }), false, usd(900)],
  ])('%s', (_name, state, frozen, expected) => {
    expect(worstCaseMicros(state, frozen)).toBe(expected)
  })

  test('no granted sequence leaves more open than it said', () => {
    const sequence = fc.array(fc.tuple(fc.constantFrom('reserve', 'capture', 'void'), amount), {
      maxLength: 30,
    })
    const property = fc.property(accounts, sequence, (start, acts) => {
      const worst = worstCaseMicros(start, false)
      let state = start
      for (const [act, wanted] of acts) {
        const of = least(wanted, state.user.heldMicros)
        const holdsIt = state.credential === null || state.credential.heldMicros >= of
        if (act === 'reserve' && denial(state, wanted) === null) state = applied(state, held(wanted))
        if (act === 'capture' && holdsIt) state = applied(state, captured(of, 0n))
        if (act === 'void' && holdsIt) state = applied(state, released(of))
        expect(state.user.openMicros <= worst).toBe(true)
      }
    })
    fc.assert(property, options)
  })
})

describe('changes', () => {
  const nothing = account({ credential: [60, 0, 0] })

  test('a hold, part of it captured, the rest released, the position closed', () => {
    const afterHold = applied(nothing, held(usd(50)))
    expect(afterHold.user).toEqual({ heldMicros: usd(50), openMicros: 0n, spentMicros: 0n })
    expect(afterHold.credential).toEqual({
      dailyLimitMicros: usd(60),
      heldMicros: usd(50),
      spentMicros: 0n,
    })
    const afterCapture = applied(afterHold, captured(usd(20), usd(10)))
    expect(afterCapture.user).toEqual({ heldMicros: usd(20), openMicros: usd(20), spentMicros: usd(20) })
    const afterVoid = applied(afterCapture, released(usd(20)))
    expect(afterVoid.user).toEqual({ heldMicros: 0n, openMicros: usd(20), spentMicros: usd(20) })
    const afterClose = applied(afterVoid, closed(usd(20)))
    expect(afterClose.user).toEqual({ heldMicros: 0n, openMicros: 0n, spentMicros: usd(20) })
    expect(afterClose.credential).toEqual({
      dailyLimitMicros: usd(60),
      heldMicros: 0n,
      spentMicros: usd(20),
    })
  })

  test.each<[string, Change]>([
    ['held', released(1n)],
    ['held, by a capture', captured(1n, 0n)],
    ['open', closed(1n)],
  ])('a total below zero is a bug and throws: %s', (_name, change) => {
    expect(() => applied(nothing, change)).toThrow(RangeError)
    expect(() => applied({ ...nothing, credential: null }, change)).toThrow(RangeError)
  })

  test('a recorded amount is the same as a hold captured whole', () => {
    const property = fc.property(accounts, amount, (state, amountMicros) => {
      expect(applied(state, recorded(amountMicros))).toEqual(
        applied(applied(state, held(amountMicros)), captured(amountMicros, 0n)),
      )
    })
    fc.assert(property, options)
  })

  test('every change is exact past 2^53 micro-dollars, to the last digit', () => {
    const property = fc.property(accounts, amount, amount, (state, amountMicros, released1) => {
      const after = applied(applied(state, held(amountMicros + released1)), captured(amountMicros, released1))
      expect(after.user.heldMicros).toBe(state.user.heldMicros)
      expect(after.user.openMicros - state.user.openMicros).toBe(amountMicros)
      expect(after.user.spentMicros - state.user.spentMicros).toBe(amountMicros)
    })
    fc.assert(property, options)
  })

  test('whatever is granted never passes a limit, in any order of acts', () => {
    const acts = fc.array(
      fc.tuple(fc.constantFrom('reserve', 'capture', 'void', 'close'), fc.bigInt({ min: 1n, max: 60n })),
      { maxLength: 60 },
    )
    const limits = fc.record({
      perTradeMicros: fc.bigInt({ min: 0n, max: 60n }),
      dailyMicros: fc.bigInt({ min: 0n, max: 200n }),
      exposureMicros: fc.bigInt({ min: 0n, max: 200n }),
    })
    const property = fc.property(
      limits,
      fc.bigInt({ min: 0n, max: 200n }),
      acts,
      (limit, ofCredential, list) => {
        let state: Account = {
          limits: limit,
          user: { heldMicros: 0n, openMicros: 0n, spentMicros: 0n },
          credential: { dailyLimitMicros: ofCredential, heldMicros: 0n, spentMicros: 0n },
        }
        for (const [act, wanted] of list) {
          const ofHeld = least(wanted, state.user.heldMicros)
          const ofOpen = least(wanted, state.user.openMicros)
          if (act === 'reserve' && denial(state, wanted) === null) state = applied(state, held(wanted))
          if (act === 'capture') state = applied(state, captured(ofHeld, 0n))
          if (act === 'void') state = applied(state, released(ofHeld))
          if (act === 'close') state = applied(state, closed(ofOpen))
          for (const [level, ceiling, used] of levels(state))
            expect([level, used <= ceiling]).toEqual([level, true])
        }
      },
    )
    fc.assert(property, options)
  })
})

describe('percent', () => {
  test.each([
    [0n, usd(500), 0],
    [usd(1), usd(3), 33.33],
    [usd(2), usd(3), 66.66],
    [usd(500) - 1n, usd(500), 99.99],
    [usd(500), usd(500), 100],
    [usd(750), usd(500), 150],
    [0n, 0n, 100],
    [usd(5), 0n, 100],
    [1n, usd(1_000_000_000), 0],
    [287n, 1000n, 28.7],
    [1_157n, 10_000n, 11.57],
  ])('%s of %s is %s', (used, limit, percent) => {
    expect(percentOf(used, limit)).toBe(percent)
  })

  test('is rounded down to two places, never up, also past 2^53', () => {
    const property = fc.property(micros, amount, (used, limit) => {
      const percent = percentOf(used, limit)
      const exact = (used * 10_000n) / limit
      if (exact < 2n ** 50n) {
        const hundredths = BigInt(Math.round(percent * 100))
        expect(hundredths * limit <= used * 10_000n).toBe(true)
        expect((hundredths + 1n) * limit > used * 10_000n).toBe(true)
      } else expect(percent).toBe(Number(exact) / 100)
      expect(percent >= 100).toBe(used >= limit)
    })
    fc.assert(property, options)
  })
})
