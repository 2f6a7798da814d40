import { hash } from 'node:crypto'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { presenting, tokenClient } from './clients.ts'
import { issuePaths, Story, until } from './story.ts'

let story: Story
beforeAll(async () => {
  story = await Story.begin()
  await story.store('alice', 1)
})
afterAll(() => story[Symbol.asyncDispose]())

const spend = { users: ['alice'], scopes: ['spend'] }

describe('clients.add', () => {
  test('makes an entry that the list shows, and tells its token once', async () => {
    const added = await story.ok('clients.add', {
      name: 'maker ä',
      uid: 4_000_000_000,
      gid: 7,
      token: true,
      expiresAt: '2099-01-01T00:00:00+01:00',
      users: ['alice', 5],
      credentials: [1, 2],
      scopes: ['spend', 'sign'],
    })
    expect(added).toEqual({ clientId: expect.any(Number), token: expect.stringMatching(/^prs_[\w-]{43}$/) })
    const { clients } = await story.ok('clients.list')
    expect(clients.at(-1)).toEqual({
      clientId: added.clientId,
      name: 'maker ä',
      uid: 4_000_000_000,
      gid: 7,
      hasToken: true,
      users: ['alice', '5'],
      credentials: [1, 2],
      scopes: ['spend', 'sign'],
      expiresAt: '2098-12-31T23:00:00.000Z',
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
      lastUsedAt: null,
    })
    // 32 bytes, every one of them.
    const bytes = Buffer.from(added.token.slice(4), 'base64url')
    expect([bytes.length, `prs_${bytes.toString('base64url')}`]).toEqual([32, added.token])
    expect(await story.ok('clients.add', { ...spend, name: 'by uid', uid: 2001 })).toMatchObject({
      token: null,
    })
    expect(story.purser.logs().join('\n')).not.toContain(added.token)
  })

  test('every token is another, and the store holds but its hash', async () => {
    const tokens = new Set<string>()
    for (let n = 0; n < 20; n++) {
      const { token } = await story.ok('clients.add', { ...spend, name: `many-${n}`, token: true })
      tokens.add(token)
    }
    expect(tokens.size).toBe(20)
    const [token] = tokens
    await story.restart()
    const copy = join(story.purser.directory, 'copy.db')
    await story.ok('backup.create', { path: copy })
    const database = new Database(copy, { readonly: true })
    const stored = database.prepare("SELECT token_hash FROM clients WHERE name = 'many-0'").pluck().get()
    expect(stored).toEqual(hash('sha256', token!, 'buffer'))
    database.close()
    // It is an entry after a restart too.
    const hello = await story.ok('session.hello', { token }, story.connect())
    expect(hello.identity).toMatchObject({ client: 'many-0', role: 'client', users: ['alice'] })
  })

  test.each<[what: string, params: object, paths: string[]]>([
    ['nothing it could be told by', { ...spend, name: 'x' }, ['uid']],
    ['no name', { ...spend, uid: 1 }, ['name']],
    ['an empty name', { ...spend, name: '', uid: 1 }, ['name']],
    ['no users', { name: 'x', uid: 1, scopes: ['spend'] }, ['users']],
    ['an empty list of users', { ...spend, name: 'x', uid: 1, users: [] }, ['users']],
    ['a user that can be none', { ...spend, name: 'x', uid: 1, users: ['a b'] }, ['users.0']],
    ['no scopes', { ...spend, name: 'x', uid: 1, scopes: [] }, ['scopes']],
    ['an unknown scope', { ...spend, name: 'x', uid: 1, scopes: ['root'] }, ['scopes.0']],
    ['a uid below 0', { ...spend, name: 'x', uid: -1 }, ['uid']],
    ['a uid that the kernel has not', { ...spend, name: 'x', uid: 2 ** 32 - 1 }, ['uid']],
    ['token: false', { ...spend, name: 'x', uid: 1, token: false }, ['token']],
    ['a token of the caller’s own', { ...spend, name: 'x', uid: 1, token: 'prs_mine' }, ['token']],
    ['a past expiry', { ...spend, name: 'x', uid: 1, expiresAt: '2020-01-01T00:00:00Z' }, ['expiresAt']],
    ['an admin of one user', { name: 'x', uid: 1, users: ['alice'], scopes: ['admin'] }, ['users']],
    [
      'an admin of one credential',
      { name: 'x', uid: 1, users: '*', credentials: [1], scopes: ['admin'] },
      ['credentials'],
    ],
  ])('%s is InvalidParams', async (_what, params, paths) => {
    expect(issuePaths(await story.refused('InvalidParams', 'clients.add', params))).toEqual(paths)
  })

  test('a taken name, uid or gid is a Conflict; told apart by tokens they may share', async () => {
    await story.ok('clients.add', { ...spend, name: 'first', uid: 3001, gid: 3002 })
    const again = async (field: string, params: object) => {
      const { data } = await story.refused('Conflict', 'clients.add', { ...spend, ...params })
      expect(data).toMatchObject({ resource: 'client', field })
    }
    await again('name', { name: 'first', uid: 3001 })
    await again('uid', { name: 'second', uid: 3001, gid: 3002 })
    await again('gid', { name: 'second', gid: 3002 })
    for (const name of ['bot a', 'bot b'])
      await story.ok('clients.add', { ...spend, name, uid: 3001, gid: 3002, token: true })
    await story.ok('clients.add', { ...spend, name: 'second', uid: 3003 })
  })
})

describe('clients.update', () => {
  test('changes what is given and leaves the rest', async () => {
    const { clientId } = await story.ok('clients.add', {
      ...spend,
      name: 'changing',
      uid: 5001,
      credentials: [1],
      expiresAt: '2099-01-01T00:00:00Z',
    })
    const before = (await story.ok('clients.list')).clients.at(-1)
    const after = await story.ok('clients.update', { clientId, scopes: ['sign'] })
    expect(after).toEqual({ ...before, scopes: ['sign'], updatedAt: expect.any(String) })
    expect(
      await story.ok('clients.update', { clientId, users: '*', credentials: null, expiresAt: null }),
    ).toMatchObject({ users: '*', credentials: null, expiresAt: null, scopes: ['sign'] })
    const widened = await story.ok('clients.update', { clientId, scopes: ['admin'] })
    expect((await story.ok('clients.list')).clients.at(-1)).toEqual(widened)
    const refused = await story.refused('InvalidParams', 'clients.update', { clientId, users: ['alice'] })
    expect(issuePaths(refused)).toEqual(['users'])
    expect((await story.ok('clients.list')).clients.at(-1)).toEqual(widened)
  })

  test('an id that is none is NotFound', async () => {
    for (const method of ['clients.update', 'clients.remove']) {
      const { data } = await story.refused('NotFound', method, { clientId: 999_999 })
      expect(data).toMatchObject({ resource: 'client' })
    }
  })
})

test('clients.remove takes it off the list, and its name is free again', async () => {
  const { clientId } = await story.ok('clients.add', { ...spend, name: 'short', uid: 6001 })
  expect(await story.ok('clients.remove', { clientId })).toEqual({ clientId })
  await story.refused('NotFound', 'clients.remove', { clientId })
  const names = (await story.ok('clients.list', { limit: 1000 })).clients.map(
    ({ name }: { name: string }) => name,
  )
  expect(names).not.toContain('short')
  const again = await story.ok('clients.add', { ...spend, name: 'short', uid: 6001 })
  expect(again.clientId).toBeGreaterThan(clientId)
})

test('the list comes page by page', async () => {
  const all = (await story.ok('clients.list', { limit: 1000 })).clients
  const paged: unknown[] = []
  for (let cursor: string | null = null; ; ) {
    const page: { clients: unknown[]; nextCursor: string | null } = await story.ok('clients.list', {
      limit: 7,
      ...(cursor === null ? {} : { cursor }),
    })
    paged.push(...page.clients)
    cursor = page.nextCursor
    if (cursor === null) break
  }
  expect(paged).toEqual(all)
  await story.refused('InvalidParams', 'clients.list', { cursor: 'x' })
})

describe('the audit log', () => {
  test('tells of every change, and never the token', async () => {
    let token = ''
    const told = await story.audited(async () => {
      const added = await story.ok('clients.add', { ...spend, name: 'told', gid: 4242, token: true })
      token = added.token
      const { clientId } = added
      await story.ok('clients.update', { clientId, users: ['alice', 'bob'] })
      await story.ok('clients.remove', { clientId })
      await story.refused('NotFound', 'clients.remove', { clientId })
      await story.refused('Conflict', 'clients.add', { ...spend, name: 'first', token: true })
    })
    expect(told.map(({ action, outcome }) => [action, outcome])).toEqual([
      ['client_added', 'ok'],
      ['client_updated', 'ok'],
      ['client_removed', 'ok'],
      ['client_removed', 'denied'],
      ['client_added', 'denied'],
    ])
    expect(told[0]!.details).toEqual({
      clientId: expect.any(Number),
      name: 'told',
      uid: null,
      gid: 4242,
      hasToken: true,
      users: ['alice'],
      credentials: null,
      scopes: ['spend'],
      expiresAt: null,
    })
    expect(told[2]!.details).toEqual({ clientId: told[0]!.details['clientId'], name: 'told' })
    expect(JSON.stringify(told)).not.toContain(token.slice(4))
    expect(JSON.stringify(told)).not.toContain(hash('sha256', token, 'hex'))
  })

  test('names the entry an act came by, beside what the caller calls itself', async () => {
    const { clientId, client } = await tokenClient(story, { users: ['alice'] })
    await story.ok('session.hello', { client: 'maker/1.2' }, client)
    const told = await story.audited(async () => {
      await story.ok('spend.reserve', { userId: 'alice', amountUsd: '1' }, client)
      await story.refused('Forbidden', 'credentials.retrieve', { userId: 'alice' }, client)
      await story.refused('Forbidden', 'spend.reserve', { userId: 'bob', amountUsd: '1' }, client)
      await story.ok('spend.reserve', { userId: 'alice', amountUsd: '1' })
    })
    expect(told.map(({ action, userId, client, details }) => [action, userId, client, details])).toEqual([
      ['spend_reserved', 'alice', 'maker/1.2', expect.objectContaining({ asClient: clientId })],
      [
        'access_denied',
        null,
        'maker/1.2',
        { error: 'Forbidden', asClient: clientId, method: 'credentials.retrieve' },
      ],
      [
        'access_denied',
        'bob',
        'maker/1.2',
        { error: 'Forbidden', asClient: clientId, method: 'spend.reserve' },
      ],
      ['spend_reserved', 'alice', null, expect.not.objectContaining({ asClient: expect.anything() })],
    ])
    await story.chainHolds()
  })

  test('a Forbidden that arises late is access_denied too, once', async () => {
    const credentialId = await story.store('late', 70, { dailySpendLimitUsd: '5' })
    const { client } = await tokenClient(story, { users: ['late'], scopes: ['credentials:write'] })
    const one = { userId: 'late', credentialId }
    const told = await story.audited(async () => {
      const { data } = await story.refused(
        'Forbidden',
        'credentials.update',
        { ...one, dailySpendLimitUsd: '6' },
        client,
      )
      expect(data).toMatchObject({ scope: 'admin' })
    })
    expect(told.map(({ action, outcome, userId }) => [action, outcome, userId])).toEqual([
      ['access_denied', 'denied', 'late'],
    ])
  })
})

test('what is refused only at its place in the commit is told of too, of methods that are not audited as well', async () => {
  const self = await tokenClient(story, { scopes: ['admin'] })
  const told = await story.audited(async () => {
    const behind = ['credentials.get', 'credentials.list', 'users.get', 'spend.status']
    self.client.send(
      [
        { jsonrpc: '2.0', id: 0, method: 'clients.remove', params: { clientId: self.clientId } },
        ...behind.map((method, n) => {
          const params = method === 'credentials.list' ? {} : { userId: 'alice' }
          const credential = method === 'credentials.get' ? { credentialId: 1 } : {}
          return { jsonrpc: '2.0', id: n + 1, method, params: { ...params, ...credential } }
        }),
      ]
        .map((request) => `${JSON.stringify(request)}\n`)
        .join(''),
    )
    await until(() => self.client.answers.length === behind.length + 1)
  })
  const types = new Map(self.client.answers.flat().map(({ id, error }) => [id, error?.data.type ?? 'ok']))
  expect([0, 1, 2, 3, 4].map((id) => types.get(id))).toEqual(['ok', ...Array(4).fill('Forbidden')])
  expect(told.map(({ action, details }) => `${action} ${details['method'] ?? ''}`).sort()).toEqual([
    'access_denied credentials.get',
    'access_denied credentials.list',
    'access_denied spend.status',
    'access_denied users.get',
    'client_removed ',
  ])
})

describe('session.hello with a token', () => {
  test('says what the entry gives, and takes the place of what the uid gives', async () => {
    const { token } = await tokenClient(story, {
      name: 'told by hello',
      users: ['bob', 'alice'],
      scopes: ['spend', 'settle'],
    })
    const client = story.connect()
    expect((await story.ok('session.hello', {}, client)).identity).toMatchObject({
      client: null,
      role: 'admin',
    })
    const { identity } = await story.ok('session.hello', { token, client: 'bot/1' }, client)
    expect(identity).toEqual({
      uid: process.getuid!(),
      gid: process.getgid!(),
      pid: process.pid,
      client: 'told by hello',
      role: 'client',
      users: ['bob', 'alice'],
      scopes: ['spend', 'settle'],
    })
    await story.refused('Forbidden', 'users.list', {}, client)
    // Again the same is well.
    await story.ok('session.hello', { token }, client)
  })

  test('takes effect at its place in the stream, inside a batch too', async () => {
    const { token } = await tokenClient(story, { users: ['alice'] })
    const line = (id: number, method: string, params: object = {}) => ({ jsonrpc: '2.0', id, method, params })
    const lines = [line(1, 'users.list'), line(2, 'session.hello', { token }), line(3, 'users.list')]
    const batch = story.connect()
    batch.send(`${JSON.stringify(lines)}\n`)
    const inBatch = [await batch.answer()].flat()
    const stream = story.connect()
    stream.send(lines.map((one) => `${JSON.stringify(one)}\n`).join(''))
    await until(() => stream.answers.length === 3)
    for (const answers of [inBatch, stream.answers.flat()]) {
      const byId = new Map(answers.map((answer) => [answer.id, answer.error?.data.type ?? 'ok']))
      expect([byId.get(1), byId.get(2), byId.get(3)]).toEqual(['ok', 'ok', 'Forbidden'])
    }
  })

  test('a second, different token closes, and nothing later is carried out', async () => {
    const first = await tokenClient(story, { scopes: ['freeze'] })
    const second = await tokenClient(story, { scopes: ['freeze'] })
    const told = await story.audited(async () => {
      first.client.send(
        `${[
          { jsonrpc: '2.0', id: 1, method: 'session.hello', params: { token: second.token } },
          { jsonrpc: '2.0', id: 2, method: 'users.freeze', params: { userId: 'alice', reason: 'late' } },
        ]
          .map((request) => JSON.stringify(request))
          .join('\n')}\n`,
      )
      await first.client.ended()
    })
    expect(first.client.answers).toMatchObject([{ id: 1, error: { data: { type: 'Forbidden' } } }])
    expect(told.map(({ action, details }) => [action, details['asClient']])).toEqual([
      ['access_denied', first.clientId],
    ])
    expect(await story.ok('users.get', { userId: 'alice' })).toMatchObject({ frozen: null })
  })

  test('a removed or expired token is wrong', async () => {
    const removed = await tokenClient(story)
    await story.ok('clients.remove', { clientId: removed.clientId })
    const expired = await tokenClient(story)
    await story.ok('clients.update', { clientId: expired.clientId, expiresAt: '2020-01-01T00:00:00Z' })
    for (const { token, client } of [removed, expired]) {
      await story.refused('Forbidden', 'session.hello', { token }, story.connect())
      // And on the connection it was presented on, there is no role left, whatever the uid.
      expect((await story.ok('session.hello', {}, client)).identity).toMatchObject({
        role: 'none',
        client: null,
        users: [],
        scopes: [],
      })
      await story.refused('Forbidden', 'spend.status', { userId: 'alice' }, client)
    }
  })
})

test('a use shows at once, and later ones lag', async () => {
  const { clientId, token } = await tokenClient(story)
  const lastUsed = async () =>
    (await story.ok('clients.list', { limit: 1000 })).clients.find(
      (one: { clientId: number }) => one.clientId === clientId,
    ).lastUsedAt as string | null
  const first = await lastUsed()
  expect(Date.parse(first!)).toBeGreaterThan(Date.now() - 30_000)
  const again = await presenting(story, token)
  await story.ok('spend.status', { userId: 'alice' }, again)
  expect(await lastUsed()).toBe(first)
  await story.restart()
  expect(await lastUsed()).toBe(first)
})
