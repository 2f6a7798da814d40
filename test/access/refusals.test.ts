import { describe, expect, test } from 'vitest'
import { RefusalLimiter } from '../../src/access/refusals.ts'

describe('refusals written one by one', () => {
  function at(startMs = 0) {
    const clock = { ms: startMs }
    const limiter = new RefusalLimiter(() => clock.ms)
    /** How many of `count` refusals of `uid` are written. */
    const admitted = (uid: number, count: number) =>
      Array.from({ length: count }, () => limiter.admit(uid)).filter(Boolean).length
    return { clock, limiter, admitted }
  }

  test('up to 60 a minute of one uid, the rest is counted', () => {
    const { limiter, admitted } = at()
    expect(admitted(1001, 100)).toBe(60)
    expect(admitted(1002, 10)).toBe(10)
    expect(limiter.takeSkipped()).toBe(40)
    expect(limiter.takeSkipped()).toBe(0)
  })

  test('up to 600 a minute in all: a namespace of 65,536 uids does not fill the disk', () => {
    const { limiter, admitted } = at()
    let written = 0
    for (let uid = 0; uid < 65_536; uid++) written += admitted(uid, 1)
    expect(written).toBe(600)
    expect(limiter.takeSkipped()).toBe(65_536 - 600)
  })

  test('anew each minute', () => {
    const { clock, admitted, limiter } = at(59_999)
    expect(admitted(1001, 61)).toBe(60)
    clock.ms = 60_000
    expect(admitted(1001, 61)).toBe(60)
    clock.ms = 600_000
    expect(admitted(1001, 1)).toBe(1)
    // None is lost in between.
    expect(limiter.takeSkipped()).toBe(2)
  })
})
