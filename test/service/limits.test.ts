import { expect, test } from 'vitest'
import { defaultUser, effectiveLimits, type Tiers } from '../../src/service/users.ts'

const tiers: Tiers = Object.assign(Object.create(null), {
  free: { perTradeMicros: 1n, dailyMicros: 2n, exposureMicros: 3n },
})
const zero = { perTradeMicros: 0n, dailyMicros: 0n, exposureMicros: 0n }

test('the limits that hold are the own ones, else those of the tier, else 0', () => {
  const user = defaultUser('alice')
  expect(effectiveLimits(user, tiers)).toEqual(tiers['free'])
  expect(effectiveLimits({ ...user, dailyMicros: 0n }, tiers)).toEqual({ ...tiers['free'], dailyMicros: 0n })
  expect(effectiveLimits({ ...user, tier: 'dropped' }, tiers)).toEqual(zero)
  expect(effectiveLimits({ ...user, tier: 'dropped', exposureMicros: 9n }, tiers)).toEqual({
    ...zero,
    exposureMicros: 9n,
  })
  for (const tier of ['constructor', '__proto__', 'toString'])
    expect(effectiveLimits({ ...user, tier }, tiers)).toEqual(zero)
})
