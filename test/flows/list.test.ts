import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runner } from '../support/flow.ts'
import { randomOf, Story, testSeed } from './story.ts'

// Lists over many rows: every filter and page size gives what a plain scan of everything gives.

type Metadata = {
  credentialId: number
  userId: string
  status: 'active' | 'revoked' | 'expired'
  encryptedAt: string
  expiresAt: string | null
}

/** With the delayed store every query waits, so it gets fewer. */
const count = runner === 'delayed' ? 120 : 600
const users = ['alice', 'bob', 'carol']
const seed = testSeed()
const random = randomOf(seed)
const dayMs = 86_400_000

let story: Story
let all: Metadata[]

beforeAll(async () => {
  story = await Story.begin()
  const kinds = Array.from({ length: count }, () => ({
    userId: users[Math.floor(random() * 2)]!,
    expiresAt:
      random() < 0.6 ? new Date(Date.now() + dayMs * (1 + Math.floor(random() * 20))).toISOString() : null,
    fate: random(),
  }))
  const make = async (fill: number) => {
    const { userId, expiresAt, fate } = kinds[fill]!
    const more = expiresAt === null ? {} : { expiresAt }
    const one = { userId, credentialId: await story.store(userId, fill, more) }
    if (fate < 0.2) await story.ok('credentials.revoke', one)
    else if (fate < 0.4) await story.ok('credentials.update', { ...one, expiresAt: '2021-05-05T00:00:00Z' })
  }
  // Fewer at once than the queue for derivations holds.
  for (let from = 0; from < count; from += 100)
    await Promise.all(Array.from({ length: Math.min(100, count - from) }, (_, index) => make(from + index)))
  await story.ok('users.put', { userId: 'carol' })
  all = (await pages('credentials.list', {}, 1000)).flat()
  expect(all).toHaveLength(count)
})
afterAll(() => story[Symbol.asyncDispose]())

async function pages(method: string, params: object, limit: number): Promise<Metadata[][]> {
  const found: Metadata[][] = []
  let cursor: string | null = null
  do {
    const page: { credentials: Metadata[]; nextCursor: string | null } = await story.ok(method, {
      ...params,
      limit,
      ...(cursor === null ? {} : { cursor }),
    })
    found.push(page.credentials)
    cursor = page.nextCursor
  } while (cursor !== null)
  return found
}

const ids = (list: readonly Metadata[]) => list.map(({ credentialId }) => credentialId)

describe(`credentials.list over ${count} (PURSER_TEST_SEED=${seed})`, () => {
  test('is in the order of ids, each with all of its metadata', async () => {
    expect(ids(all)).toEqual(Array.from({ length: count }, (_, index) => index + 1))
    for (const index of [0, 1, count - 1]) {
      const { userId, credentialId } = all[index]!
      expect(await story.ok('credentials.get', { userId, credentialId })).toEqual(all[index])
    }
  })

  test('without a limit it is 100 a page', async () => {
    const page = await story.ok('credentials.list')
    expect(page.credentials).toHaveLength(100)
    const next = await story.ok('credentials.list', { cursor: page.nextCursor })
    expect(next.credentials[0].credentialId).toBe(101)
  })

  test('every filter at every page size', async () => {
    const middle = all[Math.floor(count / 2)]!.encryptedAt
    const filters: { params: object; keeps: (one: Metadata) => boolean }[] = [
      { params: {}, keeps: () => true },
      ...users.map((userId) => ({ params: { userId }, keeps: (one: Metadata) => one.userId === userId })),
      ...(['active', 'revoked', 'expired'] as const).map((status) => ({
        params: { status },
        keeps: (one: Metadata) => one.status === status,
      })),
      { params: { encryptedBefore: middle }, keeps: (one) => one.encryptedAt < middle },
      { params: { encryptedBefore: '2020-01-01T00:00:00Z' }, keeps: () => false },
      {
        params: { userId: 'bob', status: 'expired', encryptedBefore: middle },
        keeps: (one) => one.userId === 'bob' && one.status === 'expired' && one.encryptedAt < middle,
      },
    ]
    for (const { params, keeps } of filters) {
      const expected = ids(all.filter(keeps))
      for (const limit of [7, 99, 1000, Math.max(1, expected.length)]) {
        const found = await pages('credentials.list', params, limit)
        expect(ids(found.flat()), JSON.stringify({ params, limit })).toEqual(expected)
        // No empty page at the end, and none that is not full before it.
        expect(found.slice(0, -1).every((page) => page.length === limit)).toBe(true)
        if (expected.length > 0) expect(found.at(-1)!.length).toBeGreaterThan(0)
      }
    }
  })

  test('a cursor stays good while rows come and go behind it', async () => {
    const first = await story.ok('credentials.list', { userId: 'alice', limit: 10 })
    const next = all.filter(({ userId }) => userId === 'alice')[10]!
    await story.ok('credentials.revoke', { userId: 'alice', credentialId: next.credentialId })
    const added = await story.store('alice', 99_999)
    const rest = await pages('credentials.list', { userId: 'alice', cursor: first.nextCursor }, 1000)
    expect(ids(rest.flat())[0]).toBe(next.credentialId)
    expect(ids(rest.flat()).at(-1)).toBe(added)
    all = (await pages('credentials.list', {}, 1000)).flat()
  })
})

describe('credentials.expiring', () => {
  test('unrevoked, not yet expired, soonest first, at every page size', async () => {
    for (const withinDays of [1.5, 5, 20, 3650]) {
      const untilMs = Date.now() + withinDays * dayMs
      const expected = all
        .filter(
          ({ status, expiresAt }) =>
            status === 'active' && expiresAt !== null && Date.parse(expiresAt) <= untilMs,
        )
        .sort(
          (a, b) => Date.parse(a.expiresAt!) - Date.parse(b.expiresAt!) || a.credentialId - b.credentialId,
        )
      for (const limit of [13, 100, 1000]) {
        const found = (await pages('credentials.expiring', { withinDays }, limit)).flat()
        expect(ids(found), JSON.stringify({ withinDays, limit })).toEqual(ids(expected))
      }
    }
  })

  test('several that expire in the same millisecond are each there once', async () => {
    await using other = await Story.begin()
    const expiresAt = new Date(Date.now() + dayMs).toISOString()
    for (let fill = 0; fill < 5; fill++) await other.store('alice', fill, { expiresAt })
    const seen: number[] = []
    let cursor: string | null = null
    do {
      const page = await other.ok('credentials.expiring', {
        withinDays: 2,
        limit: 2,
        ...(cursor === null ? {} : { cursor }),
      })
      seen.push(...ids(page.credentials))
      cursor = page.nextCursor
    } while (cursor !== null)
    expect(seen).toEqual([1, 2, 3, 4, 5])
  })

  test('what has expired since the page before is not on the next', async () => {
    await using other = await Story.begin()
    const expiresAt = new Date(Date.now() + 400).toISOString()
    for (let fill = 0; fill < 3; fill++) await other.store('alice', fill, { expiresAt })
    const later = await other.store('alice', 9, { expiresInDays: 1 })
    const { credentials, nextCursor } = await other.ok('credentials.expiring', { withinDays: 2, limit: 1 })
    expect(ids(credentials)).toEqual([1])
    await new Promise((resolve) => setTimeout(resolve, Date.parse(expiresAt) + 1 - Date.now()))
    const rest = await other.ok('credentials.expiring', { withinDays: 2, cursor: nextCursor })
    expect(ids(rest.credentials)).toEqual([later])
  })
})
