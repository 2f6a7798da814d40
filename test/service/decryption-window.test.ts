import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DecryptionWindow } from '../../src/service/decryption-window.ts'

function at(limit: number, windowMs: number) {
  const clock = { ms: 1000 }
  const window = new DecryptionWindow(limit, windowMs, () => clock.ms)
  /** Milliseconds to wait where it was refused, else 0. */
  const take = (userId = 'alice'): number => {
    try {
      window.take(userId)
      return 0
    } catch (error) {
      expect(error).toMatchObject({ type: 'RateLimited', data: { limit, windowMs } })
      return (error as { data: { retryAfterMs: number } }).data.retryAfterMs
    }
  }
  return { clock, window, take }
}

describe('the window of decryptions', () => {
  test('lets through so many in any time of its length, of one user', () => {
    const { clock, take } = at(3, 60_000)
    expect([take(), take(), take()]).toEqual([0, 0, 0])
    expect(take()).toBe(60_000)
    expect(take('bob')).toBe(0)
    clock.ms += 59_999
    expect(take()).toBe(1)
    clock.ms += 1
    expect([take(), take(), take(), take()]).toEqual([0, 0, 0, 60_000])
  })

  test('slides, it does not jump', () => {
    const { clock, take } = at(2, 1000)
    take()
    clock.ms += 600
    take()
    clock.ms += 399
    expect(take()).toBe(1)
    clock.ms += 1
    expect(take()).toBe(0)
    expect(take()).toBe(600)
  })

  test('what is refused does not count', () => {
    const { clock, take } = at(1, 1000)
    take()
    for (let n = 0; n < 10; n++) expect(take()).toBeGreaterThan(0)
    clock.ms += 1000
    expect(take()).toBe(0)
  })

  test('says how long to wait in whole milliseconds, at least one, and then lets through', () => {
    const { clock, take } = at(1, 1000)
    clock.ms = 0.75
    take()
    clock.ms = 1000.5
    const ms = take()
    expect(ms).toBe(1)
    clock.ms += ms
    expect(take()).toBe(0)
  })

  test('reset empties it and says how many counted', () => {
    const { clock, window, take } = at(3, 1000)
    take()
    clock.ms += 999
    take()
    clock.ms += 1
    expect(window.reset('alice')).toBe(1)
    expect(window.reset('alice')).toBe(0)
    expect(window.reset('nobody')).toBe(0)
    expect([take(), take(), take()]).toEqual([0, 0, 0])
  })

  test('does not remember users for ever', () => {
    const { clock, window, take } = at(100, 1000)
    for (let n = 0; n < 4096; n++) take(`user-${n}`)
    clock.ms += 1000
    take('one more')
    take('and another')
    expect(window.users).toBeLessThanOrEqual(2)
  })

  test('is what a plain count of the last window says', () => {
    const steps = fc.array(
      fc.record({
        waitMs: fc.integer({ min: 0, max: 400 }),
        userId: fc.constantFrom('a', 'b'),
        reset: fc.integer({ min: 0, max: 20 }).map((roll) => roll === 0),
      }),
      { maxLength: 200 },
    )
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 5 }), (list, limit) => {
        const { clock, window, take } = at(limit, 1000)
        let taken: { userId: string; ms: number }[] = []
        for (const { waitMs, userId, reset } of list) {
          clock.ms += waitMs
          const counted = taken.filter((one) => one.userId === userId && one.ms > clock.ms - 1000)
          if (reset) {
            expect(window.reset(userId)).toBe(counted.length)
            taken = taken.filter((one) => one.userId !== userId)
            continue
          }
          const waited = take(userId)
          expect(waited === 0).toBe(counted.length < limit)
          if (waited === 0) taken.push({ userId, ms: clock.ms })
          else expect(waited).toBe(counted[0]!.ms + 1000 - clock.ms)
        }
      }),
    )
  })
})
