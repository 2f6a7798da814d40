import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { defineMethod } from '../../src/rpc/method.ts'
import { methods } from '../../src/rpc/methods/index.ts'
import { userId } from '../../src/rpc/schemas.ts'

// One file per wire method; who may call it and what it needs of the disk is said in each, nothing has a default.

const directory = resolve(import.meta.dirname, '../../src/rpc/methods')
const files = readdirSync(directory).filter((file) => file !== 'index.ts')

const scopes = [
  ...[
    'anyone',
    'entry',
    'user',
    'credentials:read',
    'credentials:write',
    'spend',
    'sign',
    'settle',
    'audit:read',
  ],
  ...['freeze', 'admin'],
]

const abouts = ['nothing', 'user', 'new-credential', 'granted', 'reservation', 'everything']

test('every file is a method of its name, and every method is listed once', () => {
  expect(files.map((file) => file.replace(/\.ts$/, '')).sort()).toEqual(
    methods.map(({ name }) => name).sort(),
  )
  for (const { name } of methods) {
    expect(name).toMatch(/^[a-z]+\.[a-z][a-zA-Z]*$/)
    expect(readFileSync(join(directory, `${name}.ts`), 'utf8')).toContain(`name: '${name}'`)
  }
})

describe.each(methods)('$name', (method) => {
  test('says who may call it, whether it works on a full disk, and what it is', () => {
    for (const scope of [method.scope].flat()) expect(scopes).toContain(scope)
    expect(abouts).toContain(method.about)
    expect(['works', 'refused']).toContain(method.belowReserve)
    expect(['works', 'refused']).toContain(method.whileSealed)
    expect(method.large).toBeTypeOf('boolean')
    expect(method.summary).toMatch(/^[a-z].{5,80}[^.!]$/)
    expect(method.handler).toBeTypeOf('function')
  })

  test('takes no member that it does not know', () => {
    for (const unknown of ['unknown', '__proto__', 'constructor']) {
      const params = Object.fromEntries([[unknown, 1]])
      const { error } = method.params.safeParse(params)
      const told = error!.issues.find(({ code }) => code === 'unrecognized_keys')
      expect(told).toMatchObject({ path: [], keys: [unknown] })
    }
  })
})

test('methods that hand out or take in secrets, or make an audit entry, are no part of what works on a full disk', () => {
  const works = methods.filter(({ belowReserve }) => belowReserve === 'works').map(({ name }) => name)
  expect(works.sort()).toEqual(
    [
      ...[
        'session.hello',
        'system.ping',
        'system.health',
        'system.status',
        'rpc.discover',
        'system.metrics',
        'system.freeze',
        'system.seal',
        'users.freeze',
        'users.get',
        'users.list',
      ],
      ...['spend.check', 'spend.capture', 'spend.void', 'spend.record', 'spend.status', 'spend.usage'],
      ...['reservations.list', 'positions.list'],
      ...['credentials.get', 'credentials.list', 'credentials.expiring', 'credentials.revoke'],
      ...['audit.query', 'audit.verify', 'audit.failures', 'master.status'],
      // An update that would widen is refused by the service.
      ...['clients.update', 'clients.list', 'clients.remove'],
    ].sort(),
  )
})

test('without a master key everything works but what the contract names', () => {
  const named =
    /^(credentials\.(store|retrieve|update|replace|rotate)|users\.put|spend\.(check|reserve)|sign\..*|clients\.(add|update)|master\.(rotate|reseal)|backup\.create)$/
  for (const { name, whileSealed } of methods) {
    expect(`${name} ${whileSealed}`).toBe(`${name} ${named.test(name) ? 'refused' : 'works'}`)
  }
})

test('only these are open to callers without an entry', () => {
  const open = methods.filter(({ scope }) => scope === 'anyone').map(({ name }) => name)
  expect(open.sort()).toEqual(['session.hello', 'system.health', 'system.ping'])
})

test('what a method is about follows from its params, and the compiler asks for it', () => {
  const base = {
    name: 'test.only',
    summary: 'never called',
    scope: 'spend',
    belowReserve: 'works',
    whileSealed: 'works',
    large: false,
    result: z.null(),
    handler: () => null,
  } as const
  const ofUser = z.strictObject({ userId })
  const maybeOfUser = z.strictObject({ userId: userId.optional() })
  // @ts-expect-error: nothing has a default
  defineMethod({ ...base, params: z.strictObject({}) })
  // @ts-expect-error: a method with a user in its params is about that user
  defineMethod({ ...base, params: ofUser, about: 'nothing' })
  // @ts-expect-error: not every call names a user
  defineMethod({ ...base, params: maybeOfUser, about: 'user' })
  // @ts-expect-error: there is no user in the params
  defineMethod({ ...base, params: z.strictObject({ reason: z.string() }), about: 'user' })
  // @ts-expect-error: the user of a reservation counts
  defineMethod({ ...base, params: z.strictObject({ reservationId: z.string() }), about: 'everything' })
  defineMethod({ ...base, params: ofUser, about: 'user' })
  defineMethod({ ...base, params: maybeOfUser, about: 'granted' })
  for (const { params, about, name } of methods) {
    const members = Object.entries((params as z.ZodObject).shape)
    const user = members.find(([member]) => member === 'userId')?.[1] as z.ZodType | undefined
    if (user === undefined) expect([name, about]).not.toContain('user')
    else if (user.safeParse(undefined).success) expect([name, about]).toEqual([name, 'granted'])
    else expect([name, ['user', 'new-credential'].includes(about)]).toEqual([name, true])
  }
})
