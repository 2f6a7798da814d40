import { chmodSync } from 'node:fs'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { anyParams, fittingParams } from '../fuzz/params-maker.ts'
import type { DescribedMethod } from '../rpc/open-rpc-checker.ts'
import { type Ids, isRoot, OtherCaller } from '../support/other-caller.ts'
import { randomOf, Story, testSeed } from './story.ts'

// Real processes of real other uids.

const bot: Ids = { uid: 54_331, gid: 54_332 }
const stranger: Ids = { uid: 54_341, gid: 54_342 }
const seed = testSeed()
const requestCount = 10_000

if (!isRoot) console.warn('skipped: only root can start a process of a second uid')

describe.skipIf(!isRoot)('callers of other uids', () => {
  let story: Story
  const callers: OtherCaller[] = []

  beforeAll(async () => {
    story = await Story.begin({ config: { socket: { mode: '0666' } } })
    chmodSync(story.purser.directory, 0o711)
    for (const userId of ['alice', 'bob']) await story.store(userId, userId === 'alice' ? 1 : 2)
    await story.ok('spend.reserve', { userId: 'alice', amountUsd: '5', ttlSeconds: 3600 })
  })
  afterAll(async () => {
    for (const caller of callers) caller.close()
    await story?.[Symbol.asyncDispose]()
  })

  const call = (ids: Ids) => {
    const caller = new OtherCaller(story.purser.socketPath, ids)
    callers.push(caller)
    return caller
  }
  const identityOf = async (caller: OtherCaller, params: object = {}) =>
    (await caller.call('session.hello', params)).result?.identity

  test('a uid has what its entry gives, at once and until it is removed', async () => {
    const caller = call(bot)
    expect(await identityOf(caller)).toMatchObject({ uid: bot.uid, role: 'none', client: null })
    const { clientId } = await story.ok('clients.add', {
      name: 'bot',
      uid: bot.uid,
      users: ['alice'],
      scopes: ['credentials:read'],
    })
    expect(await identityOf(caller)).toMatchObject({
      role: 'client',
      client: 'bot',
      users: ['alice'],
      scopes: ['credentials:read'],
    })
    expect((await caller.call('credentials.retrieve', { userId: 'alice' })).result).toMatchObject({
      apiKey: 'key-1',
    })
    expect((await caller.call('credentials.retrieve', { userId: 'bob' })).error!.data.type).toBe('Forbidden')
    expect((await caller.call('rpc.discover')).result).toMatchObject({ openrpc: expect.any(String) })
    await story.ok('clients.remove', { clientId })
    expect((await caller.call('credentials.retrieve', { userId: 'alice' })).error!.data.type).toBe(
      'Forbidden',
    )
    expect(await identityOf(caller)).toMatchObject({ role: 'none' })
  })

  test('a primary group counts where the uid has no entry', async () => {
    await story.ok('clients.add', { name: 'group', gid: stranger.gid, users: '*', scopes: ['spend'] })
    expect(await identityOf(call(stranger))).toMatchObject({ role: 'client', client: 'group' })
    await story.ok('clients.add', { name: 'uid', uid: stranger.uid, users: '*', scopes: ['sign'] })
    const caller = call(stranger)
    expect(await identityOf(caller)).toMatchObject({ client: 'uid', scopes: ['sign'] })
    for (const { clientId, name } of (await story.ok('clients.list')).clients)
      if (['group', 'uid'].includes(name)) await story.ok('clients.remove', { clientId })
    expect(await identityOf(caller)).toMatchObject({ role: 'none' })
  })

  test('tokens tell bots of one uid apart; one bound to a uid is wrong from another', async () => {
    const add = async (params: object) =>
      await story.ok('clients.add', { token: true, scopes: ['credentials:read'], ...params })
    const first = await add({ name: 'first', users: ['alice'] })
    const second = await add({ name: 'second', users: ['bob'] })
    const bound = await add({ name: 'bound', users: '*', uid: bot.uid })
    for (const [{ token }, mine, other] of [
      [first, 'alice', 'bob'],
      [second, 'bob', 'alice'],
    ] as const) {
      const caller = call(bot)
      expect(await identityOf(caller, { token })).toMatchObject({ role: 'client', users: [mine] })
      expect((await caller.call('credentials.retrieve', { userId: mine })).result).toBeDefined()
      expect((await caller.call('credentials.retrieve', { userId: other })).error!.data.type).toBe(
        'Forbidden',
      )
    }
    const told = await story.audited(async () => {
      const wrong = call(stranger)
      const answer = await wrong.call('session.hello', { token: bound.token })
      expect(answer.error!.data).toMatchObject({ type: 'Forbidden', scope: null })
      await wrong.ended()
    })
    expect(told).toMatchObject([
      { action: 'access_denied', details: { method: 'session.hello' }, peer: { uid: stranger.uid } },
    ])
    expect(await identityOf(call(bot), { token: bound.token })).toMatchObject({ client: 'bound' })
    await story.ok('clients.remove', { clientId: bound.clientId })
    const removed = await call(bot).call('session.hello', { token: bound.token })
    expect(removed.error!.data.type).toBe('Forbidden')
  })

  // To make so many up takes most of it.
  test('10,000 random requests from an ungranted uid release nothing', { timeout: 90_000 }, async () => {
    const { methods } = (await story.ok('rpc.discover')) as { methods: DescribedMethod[] }
    // Each method's in turn: its arbitraries are made once, which takes longer than their values.
    const requests = methods.flatMap((method) => {
      const params = fc.oneof(fittingParams(method), anyParams(method), known(method))
      const numRuns = Math.ceil(requestCount / methods.length)
      return fc.sample(params, { seed, numRuns }).map((one) => [method.name, one] as const)
    })
    const random = randomOf(seed)
    const order = new Map(requests.map((request) => [request, random()]))
    requests.sort((a, b) => order.get(a)! - order.get(b)!)
    const before = await books()
    const caller = call(stranger)
    const open = ['session.hello', 'system.ping', 'system.health']
    let connection = caller
    let answered = 0
    for (let start = 0; start < requests.length; start += 500) {
      const some = requests.slice(start, start + 500).filter(([method]) => method !== 'session.hello')
      connection.send(
        some
          .map(([method, params], id) => `${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`)
          .join(''),
      )
      await connection.received(some.length)
      for (const line of connection.lines.splice(0)) {
        const { id, result, error } = JSON.parse(line)
        if (id === null) {
          // Half a surrogate pair in a secret is no text, and such a line no JSON.
          expect(error.data.type).toBe('ParseError')
          continue
        }
        const [method] = some[id]!
        answered++
        if (open.includes(method)) continue
        expect([method, result], `PURSER_TEST_SEED=${seed}`).toEqual([method, undefined])
        expect([method, error.data.type]).toEqual([method, 'Forbidden'])
      }
    }
    // Those that a guessed token ends take a connection each.
    for (const [method, params] of requests.filter(([name]) => name === 'session.hello').slice(0, 10)) {
      connection = call(stranger)
      const { result } = await connection.call(method, params)
      if (result !== undefined) expect(result.identity).toMatchObject({ role: 'none', scopes: [], users: [] })
    }
    expect(answered).toBeGreaterThan(requestCount * 0.9)
    expect(await books()).toEqual(before)
    await story.chainHolds()
  })

  /** Params with the ids that there are. */
  function known(method: DescribedMethod): fc.Arbitrary<Record<string, unknown>> {
    const ids = { userId: 'alice', credentialId: 1, reservationId: 'r1', clientId: 1, reason: 'x' }
    const names = method.params.map(({ name }) => name)
    const given = Object.entries(ids).filter(([name]) => names.includes(name))
    return fittingParams(method).map((params) => ({ ...params, ...Object.fromEntries(given) }))
  }

  /** Everything but the audit log that a request might have changed. */
  async function books(): Promise<unknown> {
    return {
      users: await story.ok('users.list'),
      credentials: await story.ok('credentials.list'),
      reservations: await story.ok('reservations.list', { userId: 'alice' }),
      clients: await story.ok('clients.list'),
      status: await story.ok('spend.status', { userId: 'alice' }),
    }
  }
})
