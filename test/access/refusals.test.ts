import { describe, expect, test } from 'vitest'
import { RefusalLimiter, type Refused, type Skipped } from '../../src/access/refusals.ts'

const stranger = (uid: number): Refused => ({ role: 'none', uid, clientId: null })
const client = (clientId: number, uid = 1001): Refused => ({ role: 'client', uid, clientId })

function begin(startMs = 0) {
  const clock = { ms: startMs }
  const disk = { low: false }
  const limiter = new RefusalLimiter(
    () => clock.ms,
    () => disk.low,
  )
  /** How many of `count` refusals are written. */
  const admitted = (whose: Refused, count: number) =>
    Array.from({ length: count }, () => limiter.admit(whose)).filter(Boolean).length
  /** What is told of as counted, where it can be written. */
  const told = async () => {
    const all: Skipped[] = []
    await limiter.tellSkipped(async (skipped) => void all.push(skipped))
    return all
  }
  return { clock, disk, limiter, admitted, told }
}

describe('refusals of callers of role none', () => {
  test('are written one by one up to 60 a minute of one uid, the rest is counted', async () => {
    const { admitted, told } = begin()
    expect(admitted(stranger(1001), 100)).toBe(60)
    expect(admitted(stranger(1002), 10)).toBe(10)
    expect(await told()).toEqual([{ clientId: null, count: 40 }])
    expect(await told()).toEqual([])
  })

  test('up to 600 a minute in all: a namespace of 65,536 uids does not fill the disk', async () => {
    const { admitted, told } = begin()
    let written = 0
    for (let uid = 0; uid < 65_536; uid++) written += admitted(stranger(uid), 1)
    expect(written).toBe(600)
    expect(await told()).toEqual([{ clientId: null, count: 65_536 - 600 }])
  })

  test('anew each minute', async () => {
    const { clock, admitted, told } = begin(59_999)
    expect(admitted(stranger(1001), 61)).toBe(60)
    clock.ms = 60_000
    expect(admitted(stranger(1001), 61)).toBe(60)
    clock.ms = 600_000
    expect(admitted(stranger(1001), 1)).toBe(1)
    // None is lost in between.
    expect(await told()).toEqual([{ clientId: null, count: 2 }])
  })

  test('are only counted while the disk is low', async () => {
    const { disk, admitted, told } = begin()
    disk.low = true
    expect(admitted(stranger(1001), 10)).toBe(0)
    expect(admitted(client(1), 10)).toBe(0)
    expect(admitted({ role: 'admin', uid: 0, clientId: null }, 10)).toBe(10)
    disk.low = false
    expect(admitted(stranger(1001), 10)).toBe(10)
    expect(await told()).toEqual([
      { clientId: null, count: 10 },
      { clientId: 1, count: 10 },
    ])
  })
})

test("a client's own are written up to 600 a minute, whatever others do, and counted for each client", async () => {
  const { admitted, told, clock } = begin()
  for (let uid = 0; uid < 1000; uid++) admitted(stranger(uid), 1)
  expect(admitted(client(1), 1000)).toBe(600)
  expect(admitted(client(1, 1002), 50)).toBe(0)
  expect(admitted(client(2), 601)).toBe(600)
  expect(await told()).toEqual([
    { clientId: null, count: 400 },
    { clientId: 1, count: 450 },
    { clientId: 2, count: 1 },
  ])
  clock.ms += 60_000
  expect(admitted(client(1), 601)).toBe(600)
})

test("an admin's are all written", async () => {
  const { admitted, told } = begin()
  expect(admitted({ role: 'admin', uid: 0, clientId: null }, 100_000)).toBe(100_000)
  expect(admitted({ role: 'admin', uid: 1001, clientId: 3 }, 10_000)).toBe(10_000)
  expect(await told()).toEqual([])
})

describe('what was only counted', () => {
  test('is not lost where it cannot be written', async () => {
    const { admitted, limiter, told } = begin()
    admitted(stranger(1001), 70)
    admitted(client(1), 605)
    await limiter.tellSkipped(async ({ clientId }) => {
      if (clientId === null) throw new Error('the disk is full')
    })
    admitted(stranger(1001), 1)
    expect(await told()).toEqual([{ clientId: null, count: 11 }])
  })

  test('is told of once, however slow the disk is', async () => {
    const { admitted, limiter, told } = begin()
    admitted(stranger(1001), 70)
    const all: Skipped[] = []
    let write: () => void = () => undefined
    const slow = limiter.tellSkipped(
      (skipped) =>
        new Promise<void>((resolve) => {
          write = () => {
            all.push(skipped)
            resolve()
          }
        }),
    )
    admitted(stranger(1001), 1)
    expect(await told()).toEqual([{ clientId: null, count: 1 }])
    write()
    await slow
    expect(all).toEqual([{ clientId: null, count: 10 }])
    expect(await told()).toEqual([])
  })

  test('takes no more memory for more clients than a bound', async () => {
    const { admitted, told } = begin()
    for (let id = 1; id <= 10_500; id++) admitted(client(id), 1)
    expect(await told()).toHaveLength(500)
    for (let id = 1; id <= 20_000; id++) admitted(client(id), 1)
    const all = await told()
    expect(all.length).toBeLessThanOrEqual(10_001)
    expect(all.reduce((sum, { count }) => sum + count, 0)).toBe(10_000)
  })
})
