import { writeFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { Story, sharedStory } from './story.ts'

const shared = sharedStory()

const limits = (perTradeUsd: string, dailyUsd: string, exposureUsd: string) => ({
  perTradeUsd,
  dailyUsd,
  exposureUsd,
})

describe('users', () => {
  test('a new user is free, an operator settles, and what is absent stays', async () => {
    const { story, alice } = shared.next()
    const made = await story.ok('users.put', { userId: alice })
    expect(made).toEqual({
      userId: alice,
      tier: 'free',
      email: null,
      limits: limits('100.00', '500.00', '500.00'),
      settlement: 'operator',
      frozen: null,
      createdAt: expect.stringMatching(/^\d{4}-.*Z$/),
    })
    expect(await story.ok('users.get', { userId: alice })).toEqual(made)

    const changed = await story.ok('users.put', {
      userId: alice,
      tier: 'pro',
      email: 'a@example.org',
      settlement: 'cooperative',
      limits: { dailyUsd: '0', perTradeUsd: 50.000001 },
      maxSignaturesPerMinute: 5,
    })
    expect(changed).toEqual({
      ...made,
      tier: 'pro',
      email: 'a@example.org',
      settlement: 'cooperative',
      limits: limits('50.000001', '0.00', '10000.00'),
    })
    // Nothing given: nothing changes.
    expect(await story.ok('users.put', { userId: alice })).toEqual(changed)
    // Another tier moves only what has no override.
    expect(await story.ok('users.put', { userId: alice, tier: 'premium' })).toMatchObject({
      limits: limits('50.000001', '0.00', '100000.00'),
    })
    // null goes back to the tier's; one at a time.
    expect(await story.ok('users.put', { userId: alice, limits: { dailyUsd: null } })).toMatchObject({
      limits: limits('50.000001', '50000.00', '100000.00'),
    })
    const back = await story.ok('users.put', {
      userId: alice,
      email: null,
      limits: { perTradeUsd: null, dailyUsd: null, exposureUsd: null },
      maxSignaturesPerMinute: null,
    })
    expect(back).toMatchObject({ email: null, limits: limits('10000.00', '50000.00', '100000.00') })
    expect(await story.ok('users.get', { userId: alice })).toEqual(back)
  })

  test('the tiers there are', async () => {
    const { story } = shared.next()
    for (const [tier, expected] of [
      ['free', limits('100.00', '500.00', '500.00')],
      ['basic', limits('500.00', '2500.00', '2500.00')],
      ['pro', limits('2000.00', '10000.00', '10000.00')],
      ['premium', limits('10000.00', '50000.00', '100000.00')],
    ])
      expect(await story.ok('users.put', { userId: 'u', tier })).toMatchObject({ tier, limits: expected })
  })

  test('a tier dropped from the configuration means limits of 0, overrides stand', async () => {
    const config = { tiers: { whale: { per_trade: '1000000', daily: '2000000', exposure: '3000000' } } }
    await using story = await Story.begin({ config })
    await story.ok('users.put', { userId: 'alice', tier: 'whale' })
    await story.ok('users.put', { userId: 'bob', tier: 'whale', limits: { dailyUsd: '7' } })
    await story.restart(() => writeFileSync(`${story.purser.directory}/purser.toml`, ''))
    expect(await story.ok('users.get', { userId: 'alice' })).toMatchObject({
      tier: 'whale',
      limits: limits('0.00', '0.00', '0.00'),
    })
    expect(await story.ok('users.get', { userId: 'bob' })).toMatchObject({
      limits: limits('0.00', '7.00', '0.00'),
    })
    // Nobody can be put there any more, but one who is there can be changed in other ways.
    await story.refused('InvalidParams', 'users.put', { userId: 'carol', tier: 'whale' })
    await story.ok('users.put', { userId: 'alice', email: 'a@example.org' })
  })

  test('limits reach from 0 to 10^12 dollars', async () => {
    const { story, alice } = shared.next()
    const put = (dailyUsd: unknown) => story.ok('users.put', { userId: alice, limits: { dailyUsd } })
    for (const [given, shown] of [
      ['1000000000000', '1000000000000.00'],
      ['1000000000000.000000', '1000000000000.00'],
      ['0', '0.00'],
      ['0.000001', '0.000001'],
      ['0.100000', '0.10'],
      [999_999_999.5, '999999999.50'],
      [0, '0.00'],
    ]) {
      expect((await put(given)).limits.dailyUsd, `${given}`).toBe(shown)
    }
  })

  test('list: in the order of ids, page by page', async () => {
    await using story = await Story.begin()
    const ids = ['B', 'a', 'a.', 'a:b', 'a@b', 'aa', '10', '9', '-', '_', 'x'.repeat(128)]
    for (const userId of ids) await story.ok('users.put', { userId })
    const sorted = [...ids].sort()
    for (const limit of [1, 2, 3, 5, 11, 12, 1000]) {
      const seen: string[] = []
      let cursor: string | null = null
      let pages = 0
      do {
        const page = await story.ok('users.list', { limit, ...(cursor === null ? {} : { cursor }) })
        seen.push(...page.users.map(({ userId }: { userId: string }) => userId))
        expect(page.users.length).toBeLessThanOrEqual(limit)
        cursor = page.nextCursor
        pages++
      } while (cursor !== null)
      expect(seen).toEqual(sorted)
      expect(pages).toBe(Math.max(1, Math.ceil(ids.length / limit)))
    }
    // What comes behind the cursor while one pages is there, what comes before it is not.
    const { nextCursor } = await story.ok('users.list', { limit: 4 })
    await story.ok('users.put', { userId: '00' })
    await story.ok('users.put', { userId: 'zz' })
    const rest = await story.ok('users.list', { cursor: nextCursor })
    const names = rest.users.map(({ userId }: { userId: string }) => userId)
    expect(names).toContain('zz')
    expect(names).not.toContain('00')
    expect(await story.ok('users.list', { cursor: 'zzz' })).toEqual({ users: [], nextCursor: null })
  })

  test('an empty store has no users', async () => {
    await using story = await Story.begin()
    expect(await story.ok('users.list')).toEqual({ users: [], nextCursor: null })
  })

  test('two puts at once both count', async () => {
    await using story = await Story.begin()
    const put = (more: object) => story.main.call('users.put', { userId: 'alice', ...more })
    await Promise.all([
      put({ email: 'a@example.org' }),
      put({ tier: 'pro' }),
      put({ limits: { dailyUsd: '1' } }),
      put({ limits: { perTradeUsd: '2' } }),
      put({ settlement: 'cooperative' }),
    ])
    expect(await story.ok('users.get', { userId: 'alice' })).toMatchObject({
      email: 'a@example.org',
      tier: 'pro',
      limits: limits('2.00', '1.00', '10000.00'),
      settlement: 'cooperative',
    })
    const created = (await story.entries()).filter(({ details }) => details['created'] === true)
    expect(created).toHaveLength(1)
  })
})
