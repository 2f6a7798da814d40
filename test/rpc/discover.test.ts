import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { methods } from '../../src/rpc/methods/index.ts'
import { openRpcDocument } from '../../src/rpc/open-rpc.ts'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { secretMemberNames } from '../../src/transport/secret-json.ts'
import { jobEnded } from '../flows/rotation.ts'
import { Story, testSeed } from '../flows/story.ts'
import { anyParams, fittingParams } from '../fuzz/params-maker.ts'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { type JsonSchema, misfit, schemasIn } from './json-schema.ts'
import { type DescribedMethod, expectOpenRpc, type OpenRpcDocument, type Param } from './open-rpc-checker.ts'

const seed = testSeed()

let story: Story
let document: OpenRpcDocument
const described = new Map<string, DescribedMethod>()

beforeAll(async () => {
  story = await Story.begin()
  document = await story.ok('rpc.discover')
  for (const method of document.methods) described.set(method.name, method)
})
afterAll(() => story[Symbol.asyncDispose]())

/** The schema of all params of a method at once. */
function paramsSchema({ params }: DescribedMethod): JsonSchema {
  return {
    type: 'object',
    properties: Object.fromEntries(params.map(({ name, schema }) => [name, schema])),
    required: params.filter(({ required }) => required).map(({ name }) => name),
    additionalProperties: false,
  }
}

/** Params as a handler's schema sees them: what a line holds in secret members was cut out of it. */
function cutOut(params: unknown): unknown {
  if (typeof params !== 'object' || params === null || Array.isArray(params)) return params
  return Object.fromEntries(
    Object.entries(params).map(([name, value]) =>
      secretMemberNames.has(name) && typeof value === 'string'
        ? [name, new SecretBytes(offHeapCopy(Buffer.from(value)))]
        : [name, value],
    ),
  )
}

const param = (method: string, name: string): Param =>
  described.get(method)!.params.find((one) => one.name === name)!

test('is an OpenRPC document of all methods and no others, with all errors', () => {
  expectOpenRpc(document)
  expect(document.methods.map(({ name }) => name)).toEqual(methods.map(({ name }) => name))
  expect(document.info).toMatchObject({ title: 'purser', version: expect.stringMatching(/^\d+\.\d+\.\d+/) })
  expect(document).toEqual(JSON.parse(JSON.stringify(openRpcDocument(methods, document.info.version))))
  expect(Object.values(document.components.errors).map(({ code }) => code)).toContain(1003)
})

describe('what it says of params', () => {
  test('which are required', () => {
    const required = (method: string) =>
      described
        .get(method)!
        .params.filter((one) => one.required)
        .map(({ name }) => name)
    expect(required('system.ping')).toEqual([])
    expect(required('session.hello')).toEqual([])
    expect(required('users.put')).toEqual(['userId'])
    expect(required('credentials.store')).toEqual(['userId', 'apiKey', 'apiSecret'])
    expect(required('credentials.replace')).toEqual(['userId', 'credentialId', 'apiKey', 'apiSecret'])
    expect(required('credentials.retrieve')).toEqual(['userId'])
    expect(required('credentials.expiring')).toEqual(['withinDays'])
    expect(required('audit.query')).toEqual([])
  })

  test('a secret is a string that is only written', () => {
    for (const [method, name] of [
      ['credentials.store', 'apiSecret'],
      ['credentials.store', 'passphrase'],
      ['credentials.replace', 'privateKey'],
      ['session.hello', 'token'],
    ] as const)
      expect(param(method, name).schema).toMatchObject({
        type: 'string',
        writeOnly: true,
        description: expect.any(String),
      })
    const names = document.methods.flatMap(({ params }) => params).filter(({ schema }) => schema['writeOnly'])
    for (const { name } of names) expect(secretMemberNames).toContain(name)
  })

  test.each<[method: string, name: string, fits: unknown[], not: unknown[]]>([
    ['users.get', 'userId', ['a', 'A.z_0:@-', 0, 12], ['', 'a b', 'x'.repeat(129), -1, 1.5, null, {}]],
    ['credentials.get', 'credentialId', [1, 99], [0, -1, '1', 1.5, null]],
    [
      'credentials.store',
      'dailySpendLimitUsd',
      ['0', '250.00', '0.000001', 5, 0.5],
      ['', '-1', '1.', '.5', '01', '1e3', 1e9, -1, null],
    ],
    ['credentials.update', 'dailySpendLimitUsd', ['1', null], ['x']],
    ['credentials.store', 'name', ['x', '\u{1f512}'.repeat(60)], ['', 'x'.repeat(257), 5, null]],
    ['credentials.store', 'expiresAt', ['2026-11-23T08:00:00Z'], [5, null]],
    ['credentials.store', 'privateKeyPolicy', ['exportable', 'sign-only'], ['none', null]],
    ['audit.query', 'limit', [1, 1000], [0, 1001, '5']],
    ['users.put', 'limits', [{}, { dailyUsd: '5' }, { dailyUsd: null }], [{ daily: '5' }, null, []]],
  ])('%s %s', (method, name, fits, not) => {
    const { schema } = param(method, name)
    for (const value of fits) expect(misfit(schema, value)).toBeNull()
    for (const value of not) expect(misfit(schema, value), JSON.stringify(value)).not.toBeNull()
  })

  test('no string is without any bound, and no object inside is open', () => {
    for (const method of document.methods)
      for (const { name, schema } of method.params)
        for (const one of schemasIn(schema)) {
          const where = `${method.name} ${name}`
          const bounds = ['maxLength', 'pattern', 'enum', 'const']
          if (one['type'] === 'string')
            expect(
              bounds.filter((bound) => one[bound] !== undefined),
              where,
            ).not.toEqual([])
          if (one['type'] === 'object') expect(one['additionalProperties'], where).toBe(false)
        }
  })

  test.each(methods)('what $name takes fits it, and of what fits much is taken', (method) => {
    const says = described.get(method.name)!
    const takes = (params: unknown) => method.params.safeParse(cutOut(params)).success
    fc.assert(
      fc.property(anyParams(says), (params) => {
        const sent = JSON.parse(JSON.stringify(params)) as unknown
        if (takes(sent)) expect(misfit(paramsSchema(says), sent)).toBeNull()
      }),
      { seed, numRuns: 300 },
    )
    // The rest is what JSON Schema cannot say: bytes, well-formed Unicode, days that exist, and above all how much an
    // amount may be, which nine of ten random ones pass.
    const samples = fc.sample(fittingParams(says), { seed, numRuns: 1000 })
    const taken = samples.filter((params) => takes(JSON.parse(JSON.stringify(params))))
    expect(taken.length).toBeGreaterThan(20)
  })
})

test('what is answered fits what it says of results', async () => {
  const key = hardhatKeys[0].privateKey
  const one = { userId: 'alice', credentialId: 1 }
  const calls: [method: string, params: Record<string, unknown>][] = [
    ['session.hello', { client: 'x' }],
    ['system.ping', {}],
    ['system.health', {}],
    ['system.status', {}],
    ['rpc.discover', {}],
    ['users.put', { userId: 'alice', email: 'a@b', limits: { dailyUsd: '5.5' } }],
    ['users.get', { userId: 'alice' }],
    ['users.list', {}],
    ['users.resetDecryptions', { userId: 'alice' }],
    [
      'credentials.store',
      { userId: 'alice', apiKey: 'k', apiSecret: apiSecret(1), privateKey: key, expiresInDays: 5 },
    ],
    ['credentials.retrieve', { userId: 'alice' }],
    ['credentials.get', one],
    ['credentials.list', {}],
    ['credentials.expiring', { withinDays: 9 }],
    ['credentials.update', { ...one, name: 'n', dailySpendLimitUsd: 7 }],
    ['credentials.replace', { ...one, apiKey: 'k2', apiSecret: apiSecret(2) }],
    ['credentials.rotate', { userId: 'alice' }],
    ['spend.check', { userId: 'alice', amountUsd: '1' }],
    ['spend.reserve', { userId: 'alice', amountUsd: '1.5', ttlSeconds: 60, idempotencyKey: 'i1' }],
    ['spend.reserve', { userId: 'alice', amountUsd: 2 }],
    ['reservations.list', { userId: 'alice' }],
    ['spend.capture', { reservationId: 'r1', amountUsd: '1', tradeId: 7, final: false }],
    ['spend.void', { reservationId: 'r2', reason: 'x' }],
    ['spend.record', { userId: 'alice', amountUsd: '0.5', tradeId: 't' }],
    ['spend.status', { userId: 'alice' }],
    ['spend.usage', {}],
    ['positions.list', { userId: 'alice', state: 'open' }],
    ['positions.close', { userId: 'alice', tradeId: 't' }],
    ['users.freeze', { userId: 'alice', reason: 'x' }],
    ['users.unfreeze', { userId: 'alice' }],
    ['system.freeze', { reason: 'x' }],
    ['system.unfreeze', {}],
    ['system.metrics', {}],
    ['system.seal', {}],
    ['system.unseal', {}],
    ['credentials.revoke', { ...one, reason: 'r' }],
    ['clients.add', { name: 'bot', uid: 4000, users: ['alice'], credentials: [1], scopes: ['spend'] }],
    ['clients.update', { clientId: 1, credentials: null }],
    ['clients.list', {}],
    ['clients.remove', { clientId: 1 }],
    ['audit.query', { limit: 5 }],
    ['audit.verify', {}],
    ['audit.failures', { over: 0 }],
    ['master.status', {}],
    ['master.rotate', { newMasterKey: '01'.repeat(32) }],
    ['master.status', {}],
    ['backup.create', {}],
  ]
  expect([...new Set(calls.map(([method]) => method)), 'master.reseal'].sort()).toEqual(
    methods.map(({ name }) => name).sort(),
  )
  for (const [method, params] of calls) {
    const says = described.get(method)!
    expect(misfit(paramsSchema(says), params), method).toBeNull()
    expect(misfit(says.result.schema, await story.ok(method, params)), method).toBeNull()
  }
  // Not while the rotation runs.
  await jobEnded(story)
  const says = described.get('master.reseal')!
  expect(misfit(says.result.schema, await story.ok('master.reseal'))).toBeNull()
})
