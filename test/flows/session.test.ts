import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Story } from './story.ts'

let story: Story
beforeAll(async () => {
  story = await Story.begin()
})
afterAll(() => story[Symbol.asyncDispose]())

describe('session.hello', () => {
  test('says who one is taken for, by the word of the kernel', async () => {
    const hello = await story.ok('session.hello', {})
    expect(hello).toEqual({
      server: 'purser',
      version: expect.any(String),
      protocol: 1,
      identity: {
        uid: process.getuid!(),
        gid: process.getgid!(),
        pid: process.pid,
        client: null,
        role: 'admin',
        users: '*',
        scopes: ['admin'],
      },
      sealed: false,
    })
  })

  test('what it gives as client stands in the audit log from then on, of this connection only', async () => {
    const client = story.connect()
    const other = story.connect()
    const told = await story.audited(async () => {
      await story.ok('users.put', { userId: 'a' }, client)
      await story.ok('session.hello', { client: 'bot/1 "ä"' }, client)
      await story.ok('users.put', { userId: 'b' }, client)
      await story.ok('users.put', { userId: 'c' }, other)
      await story.ok('session.hello', {}, client)
      await story.ok('users.put', { userId: 'd' }, client)
      await story.ok('session.hello', { client: 'x'.repeat(256) }, client)
      await story.ok('users.put', { userId: 'e' }, client)
    })
    expect(told.map(({ userId, client: name }) => [userId, name])).toEqual([
      ['a', null],
      ['b', 'bot/1 "ä"'],
      ['c', null],
      ['d', 'bot/1 "ä"'],
      ['e', 'x'.repeat(256)],
    ])
    await story.chainHolds()
  })

  test('takes effect at its place in the byte stream, inside a batch too', async () => {
    const client = story.connect()
    const request = (id: number, method: string, params: unknown) => ({ jsonrpc: '2.0', id, method, params })
    const told = await story.audited(async () => {
      client.send(
        `${JSON.stringify([
          request(1, 'users.put', { userId: 'a' }),
          request(2, 'session.hello', { client: 'in the middle' }),
          request(3, 'users.put', { userId: 'b' }),
        ])}\n`,
      )
      await client.answer(Array.isArray)
    })
    expect(told.map(({ client: name }) => name)).toEqual([null, 'in the middle'])
  })

  test('a wrong token closes the connection, and nothing later is carried out', async () => {
    const client = story.connect()
    const lines = [
      { jsonrpc: '2.0', id: 1, method: 'users.put', params: { userId: 'before-the-token' } },
      { jsonrpc: '2.0', id: 2, method: 'session.hello', params: { token: 'prs_wrong' } },
      { jsonrpc: '2.0', id: 3, method: 'users.put', params: { userId: 'after-the-token' } },
    ]
    client.send(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    await client.ended()
    const answered = Object.fromEntries(client.answers.flat().map((answer) => [answer.id, answer]))
    expect(answered['1']).toHaveProperty('result')
    expect(answered['2']).toMatchObject({ error: { code: 1001, data: { type: 'Forbidden', scope: null } } })
    expect(answered).not.toHaveProperty('3')
    await story.ok('users.get', { userId: 'before-the-token' })
    await story.refused('NotFound', 'users.get', { userId: 'after-the-token' })
  })

  test('the same inside a batch', async () => {
    const client = story.connect()
    client.send(
      `${JSON.stringify([
        { jsonrpc: '2.0', id: 1, method: 'session.hello', params: { token: 'prs_wrong' } },
        { jsonrpc: '2.0', id: 2, method: 'users.put', params: { userId: 'behind-in-batch' } },
        { jsonrpc: '2.0', method: 'users.put', params: { userId: 'notified-in-batch' } },
      ])}\n`,
    )
    const batch = [await client.answer()].flat()
    await client.ended()
    expect(batch.map(({ error }) => error?.data.type)).toEqual(['Forbidden', 'Forbidden'])
    await story.refused('NotFound', 'users.get', { userId: 'behind-in-batch' })
    await story.refused('NotFound', 'users.get', { userId: 'notified-in-batch' })
  })

  test('the token of a refused hello is an entry, but never its value', async () => {
    const client = story.connect()
    const told = await story.audited(() =>
      story.refused('Forbidden', 'session.hello', { token: 'prs_nobody-knows' }, client),
    )
    expect(told).toHaveLength(1)
    expect(told[0]).toMatchObject({ action: 'access_denied', outcome: 'denied' })
    expect(JSON.stringify(told)).not.toContain('nobody-knows')
  })
})

describe('system', () => {
  test('ping', async () => {
    const before = Date.now()
    const { pong, at } = await story.ok('system.ping')
    expect(pong).toBe(true)
    expect(at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    expect(Date.parse(at)).toBeGreaterThanOrEqual(before)
  })

  test('health', async () => {
    expect(await story.ok('system.health')).toEqual({
      status: 'ok',
      checks: { store: 'ok', checkpoint: 'ok', disk: 'ok', masterKey: 'ok', freeze: 'ok', memory: 'ok' },
    })
  })

  test('status counts what there is, and tells no secret', async () => {
    const before = await story.ok('system.status')
    await story.store('counted', 200)
    const now = await story.ok('system.status')
    expect(now.counts.users).toBe(before.counts.users + 1)
    expect(now.counts.credentials).toBe(before.counts.credentials + 1)
    expect(now.counts.auditEntries).toBe(await story.headSeq())
    expect(now).toMatchObject({
      sealed: false,
      socket: story.purser.socketPath,
      masterKey: { keyId: expect.stringMatching(/^[0-9a-f]{16}$/), epoch: 1 },
      store: { path: `${story.purser.dataDirectory}/purser.db`, schemaVersion: 2 },
    })
    expect(now.connections.connections).toBeGreaterThan(0)
    expect(JSON.stringify(now)).not.toContain(story.purser.masterKey!)
    expect(JSON.stringify(now)).not.toContain('key-200')
  })
})
