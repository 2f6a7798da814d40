import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Entry, randomOf, Story, sample, testSeed } from './story.ts'

// Queries over many entries: every filter, page size and cursor gives what a plain scan gives.

const seed = testSeed()
const random = randomOf(seed)
const users = ['alice', 'bob', 'carol']
let story: Story
/** Oldest first. */
let all: Entry[]

beforeAll(async () => {
  story = await Story.begin({ config: { cache: { ttl_seconds: 0 }, decrypt: { limit: 60 } } })
  for (const [fill, userId] of users.entries()) await story.store(userId, fill)
  const acts = Array.from({ length: 300 }, () => {
    const userId = users[Math.floor(random() * 3)]!
    const credentialId = 1 + Math.floor(random() * 3)
    return random() < 0.7
      ? (['credentials.retrieve', { userId, credentialId }] as const)
      : random() < 0.5
        ? (['users.put', { userId }] as const)
        : (['credentials.store', sample(userId, users.indexOf(userId))] as const)
  })
  for (let from = 0; from < acts.length; from += 50) {
    await Promise.all(acts.slice(from, from + 50).map(([method, params]) => story.main.call(method, params)))
    // So that times differ.
    await new Promise((resolve) => setTimeout(resolve, 3))
  }
  all = await story.entries()
})
afterAll(() => story[Symbol.asyncDispose]())

async function pages(params: object, limit: number): Promise<Entry[][]> {
  const found: Entry[][] = []
  let cursor: string | null = null
  do {
    const page: { entries: Entry[]; nextCursor: string | null } = await story.ok('audit.query', {
      ...params,
      limit,
      ...(cursor === null ? {} : { cursor }),
    })
    found.push(page.entries)
    cursor = page.nextCursor
  } while (cursor !== null)
  return found
}

const seqs = (entries: readonly Entry[]) => entries.map(({ seq }) => seq)

describe(`audit.query (PURSER_TEST_SEED=${seed})`, () => {
  test('newest first, each entry once, 100 a page without a limit', async () => {
    expect(seqs(all)).toEqual(Array.from({ length: all.length }, (_, index) => index + 1))
    const page = await story.ok('audit.query')
    expect(seqs(page.entries)).toEqual(seqs(all).reverse().slice(0, 100))
  })

  test('every filter at every page size', async () => {
    const at = all[Math.floor(all.length / 2)]!.at
    const filters: { params: object; keeps: (entry: Entry) => boolean }[] = [
      { params: {}, keeps: () => true },
      ...users.map((userId) => ({ params: { userId }, keeps: (entry: Entry) => entry.userId === userId })),
      { params: { userId: 'nobody' }, keeps: () => false },
      ...(['ok', 'denied', 'error'] as const).map((outcome) => ({
        params: { outcome },
        keeps: (entry: Entry) => entry.outcome === outcome,
      })),
      { params: { action: 'api_key_retrieved' }, keeps: ({ action }) => action === 'api_key_retrieved' },
      { params: { action: 'api_key_*' }, keeps: ({ action }) => action.startsWith('api_key_') },
      { params: { action: 'api_key_' }, keeps: () => false },
      { params: { action: 'user*' }, keeps: ({ action }) => action.startsWith('user') },
      { params: { action: 'user_put*' }, keeps: ({ action }) => action === 'user_put' },
      { params: { action: '*' }, keeps: () => true },
      { params: { since: at }, keeps: (entry) => entry.at >= at },
      { params: { until: at }, keeps: (entry) => entry.at < at },
      { params: { since: at, until: at }, keeps: () => false },
      { params: { until: '1970-01-01T00:00:00Z' }, keeps: () => false },
      { params: { since: '0001-01-01T00:00:00Z' }, keeps: () => true },
      {
        params: { userId: 'alice', action: 'api_key_*', outcome: 'denied', since: at },
        keeps: (entry) =>
          entry.userId === 'alice' &&
          entry.action.startsWith('api_key_') &&
          entry.outcome === 'denied' &&
          entry.at >= at,
      },
    ]
    for (const { params, keeps } of filters) {
      const expected = seqs(all.filter(keeps)).reverse()
      for (const limit of [9, 100, 1000, Math.max(1, expected.length)]) {
        const found = await pages(params, limit)
        expect(seqs(found.flat()), JSON.stringify({ params, limit })).toEqual(expected)
        expect(found.slice(0, -1).every((page) => page.length === limit)).toBe(true)
        if (expected.length > 0) expect(found.at(-1)!.length).toBeGreaterThan(0)
      }
    }
    expect(all.some(({ outcome }) => outcome === 'denied')).toBe(true)
  })

  test('a cursor stays good while entries are added', async () => {
    const first = await story.ok('audit.query', { limit: 10 })
    await story.ok('users.put', { userId: 'alice' })
    const second = await story.ok('audit.query', { limit: 10, cursor: first.nextCursor })
    expect(seqs(second.entries)[0]).toBe(seqs(first.entries).at(-1)! - 1)
  })

  test('a cursor from beyond the end is the beginning, and costs no more', async () => {
    const startedAt = performance.now()
    const head = await story.headSeq()
    for (const cursor of ['999999999999999', String(head + 1)]) {
      const { entries } = await story.ok('audit.query', { limit: 1, cursor })
      expect(seqs(entries)).toEqual([head])
      expect(await story.ok('audit.query', { userId: 'nobody', cursor })).toEqual({
        entries: [],
        nextCursor: null,
      })
    }
    expect(performance.now() - startedAt).toBeLessThan(5000)
    expect(await story.ok('audit.query', { cursor: '1' })).toEqual({ entries: [], nextCursor: null })
    expect(await story.ok('audit.query', { cursor: '0' })).toEqual({ entries: [], nextCursor: null })
  })
})
