import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { methods } from '../../src/rpc/methods/index.ts'
import { scopes } from '../../src/service/grant.ts'
import { type TokenClient, tokenClient } from './clients.ts'
import { Story, sample } from './story.ts'

// Every method against every scope, from the list of methods: one that is not in this table, which was written from the
// contract's page, fails.

const anyone = 'anyone'
const anyEntry = scopes
const everyScope: Readonly<Record<string, typeof anyone | readonly string[]>> = {
  'session.hello': anyone,
  'system.ping': anyone,
  'system.health': anyone,
  'system.status': [],
  'system.metrics': [],
  'system.seal': [],
  'system.unseal': [],
  'system.freeze': ['freeze'],
  'system.unfreeze': [],
  'rpc.discover': anyEntry,
  'users.put': [],
  'users.get': [],
  'users.list': [],
  'users.freeze': ['freeze'],
  'users.unfreeze': [],
  'users.resetDecryptions': [],
  'credentials.store': ['credentials:write'],
  'credentials.retrieve': ['credentials:read'],
  'credentials.get': anyEntry,
  'credentials.list': anyEntry,
  'credentials.expiring': anyEntry,
  'credentials.update': ['credentials:write'],
  'credentials.revoke': ['credentials:write'],
  'credentials.replace': ['credentials:write'],
  'credentials.rotate': ['credentials:write'],
  'spend.check': ['spend'],
  'spend.reserve': ['spend'],
  'spend.capture': ['spend', 'settle'],
  'spend.void': ['spend', 'settle'],
  'spend.record': ['spend'],
  'spend.status': anyEntry,
  'spend.usage': [],
  'reservations.list': ['spend', 'settle'],
  'positions.list': ['spend', 'settle'],
  'positions.close': ['spend', 'settle'],
  'sign.order': ['sign'],
  'sign.typedData': ['sign'],
  'sign.headers': ['sign'],
  'sign.clobAuth': [],
  'clients.add': [],
  'clients.update': [],
  'clients.list': [],
  'clients.remove': [],
  'audit.query': ['audit:read'],
  'audit.verify': ['audit:read'],
  'audit.failures': ['audit:read'],
  'master.rotate': [],
  'master.reseal': [],
  'master.status': [],
  'backup.create': [],
}

/** Those without a userId that a grant of single users does not allow, whatever its scopes. */
const needEveryUser = ['system.freeze', 'audit.verify', 'audit.failures']

let story: Story
const holders = new Map<string, { every: TokenClient; alice: TokenClient }>()

beforeAll(async () => {
  story = await Story.begin()
  await story.store('alice', 1)
  await story.store('bob', 2)
  for (const scope of scopes) {
    const every = await tokenClient(story, { scopes: [scope] })
    const alice = scope === 'admin' ? every : await tokenClient(story, { scopes: [scope], users: ['alice'] })
    holders.set(scope, { every, alice })
  }
})
afterAll(() => story[Symbol.asyncDispose]())

test('every method is in the table', () => {
  for (const { name } of methods) expect(Object.keys(everyScope)).toContain(name)
})

describe.each(methods)('$name', ({ name, params }) => {
  const allowed = everyScope[name]!
  const isAllowed = (scope: string) => allowed === anyone || scope === 'admin' || allowed.includes(scope)

  test.each(scopes)('for %s', async (scope) => {
    const { every, alice } = holders.get(scope)!
    // Params that no method takes: whoever may call it hears of them, and nothing is carried out.
    for (const { client } of [every, alice]) {
      const { error } = await client.call(name, { notAMember: 1 })
      expect(error!.data.type).toBe(isAllowed(scope) ? 'InvalidParams' : 'Forbidden')
      if (!isAllowed(scope))
        expect(error!.data.scope).toBe(allowed === anyEntry ? null : ((allowed as string[])[0] ?? 'admin'))
    }
  })

  test('for a client of another user', async () => {
    const shape = Object.keys((params as unknown as { shape: object }).shape)
    if (allowed === anyone || allowed.length === 0 || !shape.includes('userId')) return
    const { alice } = holders.get(allowed[0]!)!
    // With all else right; what is wrong with it would be told behind the user.
    const { error } = await alice.client.call(name, paramsFor(name, 'bob'))
    expect(error!.data).toMatchObject({ type: 'Forbidden', scope: null })
  })
})

test.each(needEveryUser)('%s is not for a client of single users', async (name) => {
  const { alice } = holders.get((everyScope[name] as string[])[0]!)!
  const params = name === 'system.freeze' ? { reason: 'x' } : {}
  const { error } = await alice.client.call(name, params)
  expect(error!.data).toMatchObject({ type: 'Forbidden', scope: null })
})

/** Params of `name` that fit, for a user. */
function paramsFor(name: string, userId: string): Record<string, unknown> {
  const more: Record<string, object> = {
    'users.freeze': { reason: 'x' },
    'credentials.store': sample(userId, 9),
    'credentials.get': { credentialId: 2 },
    'credentials.update': { credentialId: 2, name: 'mine' },
    'credentials.revoke': { credentialId: 2 },
    'credentials.replace': { ...sample(userId, 9), credentialId: 2 },
    'spend.check': { amountUsd: '1' },
    'spend.reserve': { amountUsd: '1' },
    'spend.record': { amountUsd: '1' },
    'positions.close': { positionId: 'p1' },
  }
  return { userId, ...more[name] }
}
