import { expect, test } from 'vitest'
import { UserBoard } from '../../../src/cli/top/user-board.ts'
import type { PageParams, SpendStatus } from '../../../src/client/index.ts'
import { user } from './sample.ts'

/** Users `u0`, `u1`, ... in pages as the daemon answers them; `spent` may be changed between looks. */
function population(count: number) {
  const spent = new Map(Array.from({ length: count }, (_user, index) => [`u${index}`, index % 97]))
  const userIds = [...spent.keys()]
  const asked: string[] = []
  return {
    spent,
    asked,
    list: async ({ cursor, limit = 100 }: PageParams) => {
      const start = cursor === undefined ? 0 : Number(cursor)
      const users = userIds.slice(start, start + limit).map((userId) => ({ userId }) as never)
      return { users, nextCursor: start + limit < count ? String(start + limit) : null }
    },
    status: async (userId: string): Promise<SpendStatus> => {
      asked.push(userId)
      return user(userId, 'basic', 100, spent.get(userId) ?? 0)
    },
  }
}

test('few users: all of them at every look, most used first', async () => {
  const source = population(150)
  const board = new UserBoard(source)
  const first = await board.look()
  expect(first).toHaveLength(150)
  expect(first[0]?.userId).toBe('u96')
  source.spent.set('u3', 99)
  source.asked.length = 0
  expect((await board.look())[0]?.userId).toBe('u3')
  expect(source.asked).toHaveLength(150)
})

test('many users: all in turn, the busiest at every look, and a look asks about 250 at most', async () => {
  const source = population(3000)
  const board = new UserBoard(source)
  let known: readonly SpendStatus[] = []
  for (let look = 0; look < 15; look++) {
    source.asked.length = 0
    known = await board.look()
    expect(source.asked.length).toBeLessThanOrEqual(250)
  }
  expect(known).toHaveLength(3000)
  const busiest = known[0]?.userId ?? ''
  source.spent.set(busiest, 98)
  // The turn is at the first users again, and the busiest one is not among them.
  expect((await board.look())[0]).toMatchObject({ userId: busiest, userDaily: { percent: 98 } })
})

test('remembers 10,000 users at most, the most used ones', async () => {
  const source = population(12_000)
  const board = new UserBoard(source)
  let known: readonly SpendStatus[] = []
  for (let look = 0; look < 60; look++) known = await board.look()
  expect(known).toHaveLength(10_000)
  expect(known[0]?.userDaily.percent).toBe(96)
})

test('a look that fails is made again with the same users', async () => {
  const source = population(500)
  let fails = true
  const board = new UserBoard({
    ...source,
    status: (userId) => (fails ? Promise.reject(new Error('gone')) : source.status(userId)),
  })
  await expect(board.look()).rejects.toThrow('gone')
  fails = false
  expect((await board.look()).some(({ userId }) => userId === 'u0')).toBe(true)
})
