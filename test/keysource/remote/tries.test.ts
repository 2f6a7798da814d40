import { expect, test } from 'vitest'
import { SourceError } from '../../../src/keysource/remote/source-error.ts'
import { longestMs, requestLimits, withTries } from '../../../src/keysource/remote/tries.ts'

const limits = { timeoutMs: 50, pausesMs: [1, 2] }
const again = (message: string) => new SourceError(message, 'hint', { retry: true })

test('the limits are those of the contract: 3 tries of 5 s', () => {
  expect(requestLimits.timeoutMs).toBe(5000)
  expect(requestLimits.pausesMs).toHaveLength(2)
  expect(longestMs(requestLimits)).toBeLessThanOrEqual(17_000)
})

test('what may pass is tried again, and the last error counts', async () => {
  let tries = 0
  const attempt = async () => {
    tries += 1
    throw again(`try ${tries}`)
  }
  await expect(withTries(limits, attempt)).rejects.toMatchObject({ message: 'try 3' })
  tries = 1
  await expect(withTries(limits, async () => (tries < 3 ? attempt() : `done after ${tries}`))).resolves.toBe(
    'done after 3',
  )
})

test('what does not pass is not, nor is what nobody foresaw', async () => {
  for (const error of [new SourceError('no', 'hint'), new TypeError('bug')]) {
    let tries = 0
    const reading = withTries(limits, async () => {
      tries += 1
      throw error
    })
    await expect(reading).rejects.toBe(error)
    expect(tries).toBe(1)
  }
})

test('a try that hangs, signal or not, is cut off', async () => {
  const signals: AbortSignal[] = []
  const startedAt = performance.now()
  const reading = withTries(limits, (signal) => {
    signals.push(signal)
    return new Promise<never>(() => undefined)
  })
  await expect(reading).rejects.toMatchObject({ message: 'no answer within 0.05 s', retry: true })
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(150)
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, true, true])
})

test('between tries it waits, at least half of the pause', async () => {
  const at: number[] = []
  const reading = withTries({ timeoutMs: 1000, pausesMs: [40, 120] }, async () => {
    at.push(performance.now())
    throw again('busy')
  })
  await expect(reading).rejects.toThrow('busy')
  expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(19)
  expect(at[2]! - at[1]!).toBeGreaterThanOrEqual(59)
})
