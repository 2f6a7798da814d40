import { expect, test } from 'vitest'
import { Story, until } from './story.ts'

test('more openings than may wait: the rest is told to come back, and no entry is made of that', async () => {
  await using story = await Story.begin({
    fastKdf: false,
    config: {
      kdf: { memory_kib: 16_384, iterations: 1 },
      cache: { ttl_seconds: 0 },
      rpc: { max_derivations_queued: 2 },
      decrypt: { limit: 1000 },
    },
  })
  const ids: number[] = []
  for (let fill = 0; fill < 10; fill++) ids.push(await story.store(`user-${fill}`, fill))
  const before = await story.headSeq()
  const answers = await Promise.all(
    ids.map((credentialId, fill) =>
      story.main.call('credentials.retrieve', { userId: `user-${fill}`, credentialId }),
    ),
  )
  const served = answers.filter(({ result }) => result !== undefined)
  const refused = answers.flatMap(({ error }) => (error === undefined ? [] : [error]))
  expect(served.length).toBeGreaterThanOrEqual(2)
  expect(refused.length).toBeGreaterThan(0)
  for (const error of refused) {
    expect(error).toMatchObject({ code: 1003, data: { type: 'Overloaded', retryable: true } })
    expect(error.data.retryAfterMs).toBeGreaterThan(0)
    expect(error.data.retryAfterMs).toBeLessThanOrEqual(10_000)
  }
  const told = await story.entries(before)
  expect(told).toHaveLength(served.length)
  expect(told.every(({ outcome }) => outcome === 'ok')).toBe(true)

  // Who comes back is served in the end.
  for (const [fill, credentialId] of ids.entries()) {
    await until(async () => {
      const { result } = await story.main.call('credentials.retrieve', {
        userId: `user-${fill}`,
        credentialId,
      })
      return result !== undefined
    })
  }
  expect((await story.ok('system.status')).derivations).toEqual({ running: 0, waiting: 0 })
})
