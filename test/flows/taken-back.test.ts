import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Answer } from '../support/raw-client.ts'
import { lines, request } from './binding-acts.ts'
import { tokenClient } from './clients.ts'
import { Story, sample, until } from './story.ts'

let story: Story
beforeAll(async () => {
  story = await Story.begin()
})
afterAll(() => story[Symbol.asyncDispose]())

const batchOf = async (members: object[]) => {
  story.main.send(`${JSON.stringify(members)}\n`)
  return (await story.main.answer(Array.isArray)) as Answer[]
}

test('a hello behind a batch changes nothing for its members, however late they begin', async () => {
  await story.store('alice', 1)
  const { token } = await tokenClient(story, { users: ['bob'], scopes: ['spend'] })
  const client = story.connect()
  // Members behind one whose answer can be large wait for it.
  const batch = [request('large', 'clients.list', {}), request('late', 'users.get', { userId: 'alice' })]
  client.send(lines(batch, request('hello', 'session.hello', { token })))
  await until(() => client.answers.length === 2)
  const told = new Map(client.answers.flat().map(({ id, error }) => [id, error?.data.type ?? 'ok']))
  expect(Object.fromEntries(told)).toEqual({ large: 'ok', late: 'ok', hello: 'ok' })
})

test('nor for a member that is made anew behind it', async () => {
  const one = { userId: 'anew', credentialId: await story.store('anew', 20) }
  await story.ok('credentials.retrieve', one)
  const { token } = await tokenClient(story, { users: ['bob'], scopes: ['spend'] })
  const client = story.connect()
  const batch = [
    request('anew', 'credentials.retrieve', one),
    request('act', 'credentials.replace', { ...sample('anew', 21), ...one }),
  ]
  client.send(lines(batch, request('hello', 'session.hello', { token })))
  await until(() => client.answers.length === 2)
  const anew = client.answers.flat().find(({ id }) => id === 'anew')
  expect(anew).toMatchObject({ result: { apiKey: 'key-21' } })
})

test('nor does one that is refused and closes the connection', async () => {
  const client = story.connect()
  const batch = [
    request('large', 'clients.list', {}),
    request('late', 'users.put', { userId: 'before-the-hello' }),
  ]
  client.send(lines(batch, request('hello', 'session.hello', { token: 'prs_wrong' })))
  await client.ended()
  const told = new Map(client.answers.flat().map(({ id, error }) => [id, error?.data.type ?? 'ok']))
  expect(Object.fromEntries(told)).toEqual({ large: 'ok', late: 'ok', hello: 'Forbidden' })
})

test('a notification whose grant is taken back in its batch is not answered', async () => {
  await story.store('frozen', 2)
  const answers = await batchOf([
    { jsonrpc: '2.0', method: 'spend.reserve', params: { userId: 'frozen', amountUsd: '1' } },
    request('freeze', 'users.freeze', { userId: 'frozen', reason: 'x' }),
  ])
  expect(answers.map(({ id }) => id)).toEqual(['freeze'])
})

test('an expiry that has come takes back a grant that waits for its batch', async () => {
  const one = { userId: 'expired', credentialId: await story.store('expired', 3) }
  const answers = await batchOf([
    request('grant', 'spend.reserve', { ...one, amountUsd: '1' }),
    request('act', 'credentials.update', { ...one, expiresAt: '2020-01-01T00:00:00Z' }),
  ])
  const grant = answers.find(({ id }) => id === 'grant')
  expect(grant).toMatchObject({ error: { code: 2004, data: { expiredAt: '2020-01-01T00:00:00.000Z' } } })
})

test('an expiry that has yet to come does not', async () => {
  const one = { userId: 'expiring', credentialId: await story.store('expiring', 4) }
  const answers = await batchOf([
    request('grant', 'spend.reserve', { ...one, amountUsd: '1' }),
    request('act', 'credentials.update', { ...one, expiresAt: '9000-01-01T00:00:00Z' }),
  ])
  expect(answers.map(({ error }) => error)).toEqual([undefined, undefined])
})

test('a retry without an id tells nothing of an act on a credential that is not listed', async () => {
  const userId = 'moved'
  await story.store(userId, 5, { dailySpendLimitUsd: '77' })
  const second = await story.store(userId, 6)
  const { client } = await tokenClient(story, { users: [userId], credentials: [second], scopes: ['spend'] })
  const acts: [string, object][] = [
    ['spend.reserve', { userId, amountUsd: '1', ttlSeconds: 600, idempotencyKey: 'k' }],
    ['spend.record', { userId, amountUsd: '1', idempotencyKey: 'k' }],
    ['spend.record', { userId, amountUsd: '1', tradeId: 't' }],
  ]
  const first = []
  for (const [method, params] of acts) first.push(await story.ok(method, params))
  await story.ok('credentials.update', { userId, credentialId: second, isPrimary: true })
  for (const [method, params] of acts) {
    const error = await story.refused('NotFound', method, params, client)
    expect(error.data).toMatchObject({ resource: 'credential' })
  }
  // Whoever is granted all of them gets the first answer as before.
  for (const [index, [method, params]] of acts.entries())
    expect(await story.ok(method, params)).toEqual(first[index])
})

test('InvalidParams that nothing stored decides comes before Forbidden for the user', async () => {
  const { client } = await tokenClient(story, {
    users: ['carol'],
    scopes: ['spend', 'credentials:write', 'audit:read'],
  })
  const store = { ...sample('bob', 7) }
  const calls: [string, object, string][] = [
    ['positions.close', { userId: 'bob' }, 'positionId'],
    ['positions.close', { userId: 'bob', positionId: 'p1', tradeId: 't' }, 'positionId'],
    ['credentials.store', { ...store, apiSecret: '!' }, 'apiSecret'],
    ['credentials.store', { ...store, privateKey: '0x00' }, 'privateKey'],
    ['credentials.store', { ...store, expiresInDays: 1, expiresAt: '9000-01-01T00:00:00Z' }, 'expiresAt'],
    ['credentials.replace', { ...store, credentialId: 1, apiSecret: '!' }, 'apiSecret'],
  ]
  for (const [method, params, path] of calls) {
    const { data } = await story.refused('InvalidParams', method, params, client)
    expect((data as unknown as { issues: { path: string }[] }).issues.map((issue) => issue.path)).toEqual([
      path,
    ])
  }
})
