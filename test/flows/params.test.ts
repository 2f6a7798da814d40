import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import type { Answer } from '../support/raw-client.ts'
import { issuePaths, Story } from './story.ts'

// What does not fit a method's params is InvalidParams, and every issue names its own path.

let story: Story
beforeAll(async () => {
  story = await Story.begin()
  await story.store('alice', 1)
})
afterAll(() => story[Symbol.asyncDispose]())

const secret = apiSecret(7)
const store = { userId: 'alice', apiKey: 'another', apiSecret: secret }
const one = { userId: 'alice', credentialId: 1 }

type Row = [params: unknown, paths: string[]]

/** For each method params that do not fit, and where. */
const table: Record<string, Row[]> = {
  'session.hello': [
    [{ client: '' }, ['client']],
    [{ client: 'x'.repeat(257) }, ['client']],
    [{ client: '\ud800' }, ['client']],
    [{ client: 5 }, ['client']],
    [{ token: 5 }, ['token']],
    [{ version: 1 }, ['version']],
  ],
  'system.ping': [[{ a: 1, b: 2 }, ['a', 'b']]],
  'system.health': [[{ a: 1 }, ['a']]],
  'system.status': [[{ verbose: true }, ['verbose']]],
  'rpc.discover': [[{ method: 'x' }, ['method']]],
  'users.put': [
    [{}, ['userId']],
    [{ userId: '' }, ['userId']],
    [{ userId: 'a b' }, ['userId']],
    [{ userId: 'ä' }, ['userId']],
    [{ userId: 'x'.repeat(129) }, ['userId']],
    [{ userId: -1 }, ['userId']],
    [{ userId: 1.5 }, ['userId']],
    [{ userId: 2 ** 53 }, ['userId']],
    [{ userId: null }, ['userId']],
    [{ userId: true }, ['userId']],
    [{ userId: ['alice'] }, ['userId']],
    [{ userId: 'a', tier: 'no-such' }, ['tier']],
    [{ userId: 'a', tier: '__proto__' }, ['tier']],
    [{ userId: 'a', tier: 'constructor' }, ['tier']],
    [{ userId: 'a', tier: null }, ['tier']],
    [{ userId: 'a', email: '' }, ['email']],
    [{ userId: 'a', settlement: 'bot' }, ['settlement']],
    [{ userId: 'a', maxSignaturesPerMinute: -1 }, ['maxSignaturesPerMinute']],
    [{ userId: 'a', maxSignaturesPerMinute: 0.5 }, ['maxSignaturesPerMinute']],
    [{ userId: 'a', limits: 5 }, ['limits']],
    [{ userId: 'a', limits: null }, ['limits']],
    [{ userId: 'a', limits: [] }, ['limits']],
    [{ userId: 'a', limits: { dailyUsd: '-1' } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: '1.0000001' } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: '1000000000000.000001' } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: 1_000_000_000 } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: 0.0000001 } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: '01' } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: '1e3' } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: ' 1' } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: '1\n' } }, ['limits.dailyUsd']],
    [{ userId: 'a', limits: { dailyUsd: {} } }, ['limits.dailyUsd']],
    [
      { userId: 'a', limits: { perTradeUsd: 'x', exposureUsd: true } },
      ['limits.perTradeUsd', 'limits.exposureUsd'],
    ],
    [{ userId: 'a', limits: { perTradeUsd: '5', monthlyUsd: '5' } }, ['limits.monthlyUsd']],
    [{ userId: 'a', limits: { apiSecret: 'x' } }, ['limits.apiSecret']],
    [{ userId: 'a', frozen: null }, ['frozen']],
  ],
  'users.get': [
    [{}, ['userId']],
    [{ userId: 'a', x: 1 }, ['x']],
  ],
  'users.list': [
    [{ limit: 0 }, ['limit']],
    [{ limit: 1001 }, ['limit']],
    [{ limit: 1.5 }, ['limit']],
    [{ limit: '5' }, ['limit']],
    [{ cursor: '' }, ['cursor']],
    [{ cursor: 5 }, ['cursor']],
    [{ cursor: 'a b' }, ['cursor']],
    [{ userId: 'alice' }, ['userId']],
  ],
  'users.resetDecryptions': [
    [{}, ['userId']],
    [{ userId: 'a', all: true }, ['all']],
  ],
  'credentials.store': [
    [{}, ['userId', 'apiKey', 'apiSecret']],
    [{ ...store, apiKey: '' }, ['apiKey']],
    [{ ...store, apiKey: 'x'.repeat(257) }, ['apiKey']],
    [{ ...store, apiKey: 'ä'.repeat(129) }, ['apiKey']],
    [{ ...store, apiKey: '\udc00' }, ['apiKey']],
    [{ ...store, apiKey: null }, ['apiKey']],
    [{ ...store, apiSecret: '' }, ['apiSecret']],
    [{ ...store, apiSecret: null }, ['apiSecret']],
    [{ ...store, apiSecret: 5 }, ['apiSecret']],
    [{ ...store, apiSecret: { a: 1 } }, ['apiSecret']],
    [{ ...store, apiSecret: 'A'.repeat(1028) }, ['apiSecret']],
    [{ ...store, passphrase: '' }, ['passphrase']],
    [{ ...store, passphrase: 'x'.repeat(1025) }, ['passphrase']],
    [{ ...store, passphrase: null }, ['passphrase']],
    [{ ...store, privateKey: '0x' }, ['privateKey']],
    [{ ...store, privateKey: false }, ['privateKey']],
    [{ ...store, name: '' }, ['name']],
    [{ ...store, name: null }, ['name']],
    [{ ...store, dailySpendLimitUsd: '-0' }, ['dailySpendLimitUsd']],
    [{ ...store, dailySpendLimitUsd: null }, ['dailySpendLimitUsd']],
    [{ ...store, expiresInDays: 0 }, ['expiresInDays']],
    [{ ...store, expiresInDays: 3651 }, ['expiresInDays']],
    [{ ...store, expiresInDays: 1.5 }, ['expiresInDays']],
    [{ ...store, expiresAt: '2020-01-01T00:00:00Z' }, ['expiresAt']],
    [{ ...store, expiresAt: '2999-02-30T00:00:00Z' }, ['expiresAt']],
    [{ ...store, expiresAt: '2999-01-01' }, ['expiresAt']],
    [{ ...store, expiresAt: '2999-01-01T00:00:00' }, ['expiresAt']],
    [{ ...store, expiresAt: 4_102_444_800_000 }, ['expiresAt']],
    [{ ...store, expiresAt: '2999-01-01T00:00:00Z', expiresInDays: 5 }, ['expiresAt']],
    [{ ...store, isPrimary: 1 }, ['isPrimary']],
    [{ ...store, privateKeyPolicy: 'secret' }, ['privateKeyPolicy']],
    [{ ...store, minSellPrice: '0.5' }, ['minSellPrice']],
    [{ ...store, ['__proto__x']: 1, toString: 2, constructor: 3 }, ['__proto__x', 'toString', 'constructor']],
  ],
  'credentials.retrieve': [
    [{}, ['userId']],
    [{ userId: 'alice', credentialId: 0 }, ['credentialId']],
    [{ userId: 'alice', credentialId: '1' }, ['credentialId']],
    [{ userId: 'alice', credentialId: null }, ['credentialId']],
    [{ userId: 'alice', credentialId: 2 ** 53 }, ['credentialId']],
    [{ userId: 'alice', credentialID: 1 }, ['credentialID']],
  ],
  'credentials.get': [
    [{ userId: 'alice' }, ['credentialId']],
    [{ credentialId: 1 }, ['userId']],
  ],
  'credentials.list': [
    [{ status: 'gone' }, ['status']],
    [{ encryptedBefore: 'yesterday' }, ['encryptedBefore']],
    [{ cursor: 'x' }, ['cursor']],
    [{ cursor: '1.2.3' }, ['cursor']],
    [{ limit: -1 }, ['limit']],
    [{ userId: null }, ['userId']],
  ],
  'credentials.expiring': [
    [{}, ['withinDays']],
    [{ withinDays: 0 }, ['withinDays']],
    [{ withinDays: 3651 }, ['withinDays']],
    [{ withinDays: 1, cursor: 'x' }, ['cursor']],
  ],
  'credentials.update': [
    [{ userId: 'alice' }, ['credentialId']],
    [{ ...one, name: '' }, ['name']],
    [{ ...one, dailySpendLimitUsd: 'NaN' }, ['dailySpendLimitUsd']],
    [{ ...one, expiresAt: 'never' }, ['expiresAt']],
    [{ ...one, isPrimary: false }, ['isPrimary']],
    [{ ...one, isPrimary: null }, ['isPrimary']],
    [{ ...one, privateKeyPolicy: 'exportable' }, ['privateKeyPolicy']],
    [{ ...one, privateKeyPolicy: null }, ['privateKeyPolicy']],
    [{ ...one, apiSecret: secret }, ['apiSecret']],
    [{ ...one, expiresInDays: 5 }, ['expiresInDays']],
  ],
  'credentials.revoke': [
    [{ userId: 'alice' }, ['credentialId']],
    [{ ...one, reason: '' }, ['reason']],
    [{ ...one, reason: null }, ['reason']],
  ],
  'credentials.replace': [
    [one, ['apiKey', 'apiSecret']],
    [{ ...one, apiKey: 'k', apiSecret: '!' }, ['apiSecret']],
    [{ ...one, apiKey: 'k', apiSecret: secret, privateKey: '00' }, ['privateKey']],
    [{ ...one, apiKey: 'k', apiSecret: secret, name: 'n' }, ['name']],
  ],
  'credentials.rotate': [
    [{}, ['userId']],
    [{ userId: 'alice', credentialId: -1 }, ['credentialId']],
  ],
  'audit.query': [
    [{ action: '*a' }, ['action']],
    [{ action: 'api_[k]ey' }, ['action']],
    [{ action: '' }, ['action']],
    [{ outcome: 'failed' }, ['outcome']],
    [{ since: '2026' }, ['since']],
    [{ until: 5 }, ['until']],
    [{ cursor: '-1' }, ['cursor']],
    [{ credentialId: 1 }, ['credentialId']],
  ],
  'audit.verify': [
    [{ fromSeq: 0 }, ['fromSeq']],
    [{ fromSeq: '1' }, ['fromSeq']],
  ],
  'audit.failures': [
    [{ hours: 0 }, ['hours']],
    [{ over: -1 }, ['over']],
    [{ over: 0.5 }, ['over']],
  ],
  'backup.create': [
    [{ path: '' }, ['path']],
    [{ path: 'backup.db' }, ['path']],
    [{ path: './backup.db' }, ['path']],
    [{ path: '/tmp/a\0b' }, ['path']],
    [{ path: '/no/such/directory/backup.db' }, ['path']],
    [{ path: `/tmp/${'x'.repeat(300)}` }, ['path']],
    [{ path: 5 }, ['path']],
  ],
}

describe.each(Object.entries(table))('%s', (method, rows) => {
  const titled = rows.map(([params, paths]) => [JSON.stringify(params).slice(0, 90), params, paths] as const)
  test.each(titled)('%s', async (_title, params, paths) => {
    const error = await story.refused('InvalidParams', method, params)
    expect(error.code).toBe(-32602)
    expect(error.data.retryable).toBe(false)
    expect(issuePaths(error).sort()).toEqual([...paths].sort())
    for (const issue of error.data.issues)
      expect(issue).toEqual({ path: expect.any(String), message: expect.any(String) })
  })

  test.each([[null], [[]], [[1]], ['text'], [5], [true]])('params %j', async (params) => {
    const error = await story.refused('InvalidParams', method, params)
    expect(error.data.issues).toHaveLength(1)
  })
})

test('an own member named __proto__ is an unknown member like any other', async () => {
  story.main.send('{"jsonrpc":"2.0","id":"proto","method":"system.ping","params":{"__proto__":{"a":1}}}\n')
  const answer = await story.main.answer((found) => !Array.isArray(found) && found.id === 'proto')
  expect(answer).toMatchObject({ error: { code: -32602, data: { issues: [{ path: '__proto__' }] } } })
})

describe('no value of a secret member is ever echoed', () => {
  const marker = 'tell!nobody-4711'
  const { privateKey } = hardhatKeys[0]
  test.each([
    ['credentials.store', { ...store, apiSecret: marker }],
    ['credentials.store', { ...store, apiSecret: [marker] }],
    ['credentials.store', { ...store, passphrase: { marker } }],
    ['credentials.store', { ...store, privateKey: marker }],
    ['credentials.store', { ...store, privateKey: `${privateKey}${marker}` }],
    ['credentials.store', { ...store, passphrase: marker, apiKey: '' }],
    ['credentials.replace', { ...one, apiKey: 'k', apiSecret: marker }],
    ['credentials.update', { ...one, privateKey: marker }],
    ['users.put', { userId: 'a', limits: { apiSecret: marker } }],
    ['users.put', { userId: 'a', masterKey: marker, tier: 5 }],
    ['session.hello', { client: 5, token: marker }],
  ])('%s %j', async (method, params) => {
    const error = await story.refused('InvalidParams', method, params)
    expect(JSON.stringify(error)).not.toContain(marker)
    expect(story.purser.logs().join('\n')).not.toContain(marker)
  })

  test.each([
    `"apiSecret":"${marker}","apiSecret":"${marker}"`,
    `"api\\u0053ecret":"${marker}"`,
    `"apiSecret":"${marker}","api\\u0053ecret":"${marker}"`,
  ])('%s', async (members) => {
    story.main.send(
      `{"jsonrpc":"2.0","id":"cut","method":"credentials.store","params":{"userId":"alice","apiKey":"k",${members}}}\n`,
    )
    const answer = await story.main.answer((found) => !Array.isArray(found) && found.id === 'cut')
    expect(answer).toMatchObject({ error: { code: -32602 } })
    expect(new Set(issuePaths((answer as Answer).error!))).toEqual(new Set(['apiSecret']))
    expect(JSON.stringify(answer)).not.toContain(marker)
  })
})

test('a line of thousands of unknown members is answered in short', async () => {
  const params = Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`member-${n}`, n]))
  const error = await story.refused('InvalidParams', 'system.ping', params)
  expect(error.data.issues.length).toBeGreaterThan(0)
  expect(JSON.stringify(error).length).toBeLessThan(4000)
})

test('nothing of it was carried out or told in the audit log', async () => {
  expect(await story.ok('users.list')).toMatchObject({ users: [{ userId: 'alice' }] })
  expect((await story.ok('credentials.list')).credentials).toHaveLength(1)
  expect((await story.entries()).map(({ action }) => action)).toEqual(['daemon_started', 'api_key_stored'])
})
