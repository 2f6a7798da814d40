import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Story, until } from '../flows/story.ts'
import type { Answer } from '../support/raw-client.ts'
import { invalidRequest, lines, outcomes, protocolError, request } from './wire.ts'

// Section 1 of the contract: what is a request, a notification, a batch; and what params may be.

let story: Story
beforeAll(async () => {
  story = await Story.begin()
})
afterAll(() => story[Symbol.asyncDispose]())

const methodNotFound = (id: unknown) => protocolError(-32601, 'MethodNotFound', id)

async function exists(userId: string): Promise<boolean> {
  const { error } = await story.main.call('users.get', { userId })
  return error === undefined
}

/** All that is answered to `text`: a client that half-closes gets its answers, then the end. */
async function answersTo(text: string): Promise<(Answer | Answer[])[]> {
  const client = story.connect()
  client.socket.end(text)
  await client.ended()
  return client.answers
}

describe('valid JSON that is no request: -32600 with id null', () => {
  test.each<[name: string, value: unknown]>([
    ['null', null],
    ['a number', 1],
    ['a string', 'system.ping'],
    ['true', true],
    ['an empty object', {}],
    ['no jsonrpc', { id: 1, method: 'system.ping' }],
    ['jsonrpc "1.0"', { jsonrpc: '1.0', id: 1, method: 'system.ping' }],
    ['jsonrpc 2', { jsonrpc: 2, id: 1, method: 'system.ping' }],
    ['jsonrpc "2"', { jsonrpc: '2', id: 1, method: 'system.ping' }],
    ['jsonrpc null', { jsonrpc: null, id: 1, method: 'system.ping' }],
    ['no method', { jsonrpc: '2.0', id: 1 }],
    ['a method that is a number', request(1, 1)],
    ['a method that is null', request(1, null)],
    ['a method that is an array', request(1, ['system.ping'])],
    ['a method that is an object', request(1, { name: 'system.ping' })],
    ['an id with a fraction', request(1.5, 'system.ping')],
    ['an id above the safe integers', request(2 ** 53, 'system.ping')],
    ['an id below the safe integers', request(-(2 ** 53), 'system.ping')],
    ['an id that is an object', request({}, 'system.ping')],
    ['an id that is an array', request([], 'system.ping')],
    ['an id that is true', request(true, 'system.ping')],
    ['an id that is false', request(false, 'system.ping')],
    ['an answer', { jsonrpc: '2.0', id: 1, result: { pong: true } }],
    ['an error', { jsonrpc: '2.0', id: 1, error: { code: 1, message: '' } }],
    ['an invalid notification', { jsonrpc: '2.0', method: 5 }],
    ['an empty batch', []],
    ['a batch of 101', Array.from({ length: 101 }, (_, id) => request(id, 'system.ping'))],
    ['a batch of 101 notifications', Array.from({ length: 101 }, () => request(undefined, 'system.ping'))],
    ['a batch of a thousand nulls', Array.from({ length: 1000 }, () => null)],
  ])('%s', async (_, value) => {
    expect(await answersTo(lines(value))).toEqual([invalidRequest])
  })

  test('an id beyond a double', async () => {
    expect(await answersTo('{"jsonrpc":"2.0","id":1e400,"method":"system.ping"}\n')).toEqual([invalidRequest])
  })

  test('nothing of a batch that is too large is carried out', async () => {
    const batch = Array.from({ length: 101 }, (_, n) => request(n, 'users.put', { userId: `too-large-${n}` }))
    expect(await answersTo(lines(batch))).toEqual([invalidRequest])
    expect(await exists('too-large-0')).toBe(false)
  })
})

describe('an id', () => {
  test.each<[id: unknown]>([
    [0],
    [-1],
    [2 ** 53 - 1],
    [-(2 ** 53 - 1)],
    [''],
    ['1'],
    [null],
    ['\u0000 "\\ \u2028 \u{1f512}'],
    ['x'.repeat(60_000)],
  ])('%j comes back as it is', async (id) => {
    const [answer] = await answersTo(lines(request(id, 'system.ping')))
    expect(answer).toStrictEqual({ jsonrpc: '2.0', id, result: { pong: true, at: expect.any(String) } })
  })

  test('comes back with errors too', async () => {
    for (const id of [0, '', 'x', null]) {
      expect(await answersTo(lines(request(id, 'no.such')))).toEqual([methodNotFound(id)])
      const [answer] = (await answersTo(lines(request(id, 'users.get', {})))) as Answer[]
      expect(answer).toMatchObject({ id, error: { code: -32602 } })
    }
  })

  test('1.0 and 1e0 are the integer 1, "-0" is 0', async () => {
    const raw = (id: string) => `{"jsonrpc":"2.0","id":${id},"method":"system.ping"}\n`
    const answers = (await answersTo(raw('1.0') + raw('1e0') + raw('-0'))) as Answer[]
    expect(answers.map(({ id }) => id)).toEqual([1, 1, 0])
  })

  test('given twice counts as the last, as JSON.parse reads it', async () => {
    const answers = await answersTo('{"jsonrpc":"2.0","id":1,"id":2,"method":"system.ping"}\n')
    expect(answers).toMatchObject([{ id: 2, result: { pong: true } }])
  })
})

describe('a method', () => {
  test.each([
    '',
    'ping',
    'system.PING',
    'system.ping ',
    'system.ping\u0000',
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'valueOf',
    'credentials',
    'rpc.',
    '\ud800',
    'x'.repeat(60_000),
  ])('%.20j is none there is: -32601', async (method) => {
    expect(await answersTo(lines(request(1, method)))).toEqual([methodNotFound(1)])
  })

  test('unknown members of a request are ignored', async () => {
    const extra = { ...request(1, 'system.ping'), extra: 1, ['__proto__x']: 2, auth: { token: 'x' } }
    expect(await answersTo(lines(extra))).toMatchObject([{ id: 1, result: { pong: true } }])
  })
})

describe('params', () => {
  const ping = (params: unknown) => request(1, 'system.ping', params)
  const invalidParams = (path: string) => ({ id: 1, error: { code: -32602, data: { issues: [{ path }] } } })

  test('absent means an empty object', async () => {
    for (const value of [request(1, 'system.ping'), ping({})])
      expect(await answersTo(lines(value))).toMatchObject([{ id: 1, result: { pong: true } }])
    expect(await answersTo(lines(request(1, 'users.get')))).toMatchObject([invalidParams('userId')])
  })

  test.each<[params: unknown]>([[null], [[]], [['alice']], [1], ['alice'], [true], [false], [0], ['']])(
    '%j are InvalidParams',
    async (params) => {
      expect(await answersTo(lines(ping(params)))).toMatchObject([invalidParams('')])
      expect(await answersTo(lines(request(1, 'users.get', params)))).toMatchObject([invalidParams('')])
    },
  )

  test.each(['x', '__proto__', 'constructor', 'toString', 'prototype', '', 'a.b', '\u{1f512}'])(
    'an unknown member %j is named by its own path',
    async (name) => {
      const text = `{"jsonrpc":"2.0","id":1,"method":"system.ping","params":{${JSON.stringify(name)}:{"a":1}}}\n`
      expect(await answersTo(text)).toMatchObject([invalidParams(name)])
      const nested = `{"jsonrpc":"2.0","id":1,"method":"users.put","params":{"userId":"n","limits":{${JSON.stringify(name)}:"1"}}}\n`
      expect(await answersTo(nested)).toMatchObject([invalidParams(`limits.${name}`)])
      expect(await exists('n')).toBe(false)
    },
  )

  test('a prototype is no params', async () => {
    for (const params of [
      '{"__proto__":{"userId":"alice"}}',
      '{"constructor":{"prototype":{"userId":"alice"}}}',
    ]) {
      const [answer] = (await answersTo(
        `{"jsonrpc":"2.0","id":1,"method":"users.get","params":${params}}\n`,
      )) as Answer[]
      expect(answer!.error!.code).toBe(-32602)
      expect(answer!.error!.data.issues).toContainEqual({ path: 'userId', message: expect.any(String) })
    }
  })

  test('thousands of unknown members are told of in few words', async () => {
    const params = Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`m${n}`, n]))
    const [answer] = (await answersTo(lines(ping(params)))) as Answer[]
    expect(answer!.error!.data.issues).toHaveLength(20)
    const deep = { ['x'.repeat(60_000)]: 1 }
    expect(JSON.stringify(await answersTo(lines(ping(deep)))).length).toBeLessThan(1000)
  })

  test('a value is not echoed', async () => {
    const text = JSON.stringify(
      await answersTo(
        lines(request(1, 'users.put', { userId: 'needle in hay', tier: 5, email: ['needle'], x: 'needle' })),
      ),
    )
    expect(text).toContain('-32602')
    expect(text).not.toContain('needle')
  })
})

describe('a notification', () => {
  test('is carried out and not answered', async () => {
    const answers = await answersTo(lines(request(undefined, 'users.put', { userId: 'notified' })))
    expect(answers).toEqual([])
    await until(() => exists('notified'))
  })

  test('is not answered where it is refused either', async () => {
    const refused = [
      request(undefined, 'no.such'),
      request(undefined, 'users.get', { userId: 'nobody' }),
      request(undefined, 'users.put', { userId: 5.5 }),
      request(undefined, 'credentials.retrieve', { userId: 'nobody' }),
      request(undefined, 'users.put', []),
    ]
    expect(await answersTo(lines(...refused))).toEqual([])
    expect(await answersTo(lines(refused))).toEqual([])
  })

  test('hands no secret out', async () => {
    await story.store('notifier', 1)
    expect(
      await answersTo(lines(request(undefined, 'credentials.retrieve', { userId: 'notifier' }))),
    ).toEqual([])
  })
})

describe('a batch', () => {
  test('of one is answered by an array of one', async () => {
    expect(await answersTo(lines([request(1, 'system.ping')]))).toEqual([
      [{ jsonrpc: '2.0', id: 1, result: { pong: true, at: expect.any(String) } }],
    ])
  })

  test('of 100 is answered by one array, each once', async () => {
    const batch = Array.from({ length: 100 }, (_, n) => request(n, 'users.put', { userId: `batch-${n}` }))
    const [answers] = (await answersTo(lines(batch))) as Answer[][]
    expect(outcomes(answers!)).toEqual(Array.from({ length: 100 }, () => 'ok'))
    expect(answers!.map(({ id, result }) => `${id} ${result.userId}`).sort()).toEqual(
      batch.map((_, n) => `${n} batch-${n}`).sort(),
    )
  })

  test('with notifications answers the rest; with nothing else it is not answered', async () => {
    const some = [request(undefined, 'users.put', { userId: 'in-batch' }), request(7, 'system.ping')]
    expect(await answersTo(lines(some))).toMatchObject([[{ id: 7, result: { pong: true } }]])
    expect(await exists('in-batch')).toBe(true)
    const all = Array.from({ length: 100 }, (_, n) =>
      request(undefined, 'users.put', { userId: `quiet-${n}` }),
    )
    expect(await answersTo(lines(all))).toEqual([])
    await until(() => exists('quiet-99'))
  })

  test('a member that is no request gets its own -32600 in the array, the others are carried out', async () => {
    const batch = [
      null,
      request(1, 'users.put', { userId: 'beside-invalid' }),
      [],
      [request(2, 'system.ping')],
      request(1.5, 'system.ping'),
      request(3, 4),
      'x',
      {},
    ]
    const [answers] = (await answersTo(lines(batch))) as Answer[][]
    expect(answers).toHaveLength(batch.length)
    expect(answers!.filter(({ id }) => id === null)).toEqual(Array.from({ length: 7 }, () => invalidRequest))
    expect(answers!.find(({ id }) => id === 1)).toMatchObject({ result: { userId: 'beside-invalid' } })
  })

  test('of nothing but what is no request', async () => {
    expect(await answersTo('[1,2,3]\n')).toEqual([[invalidRequest, invalidRequest, invalidRequest]])
    expect(await answersTo('[[]]\n')).toEqual([[invalidRequest]])
  })

  test('with the same id twice answers it twice', async () => {
    const [answers] = (await answersTo(
      lines([request(1, 'system.ping'), request(1, 'no.such')]),
    )) as Answer[][]
    expect(answers!.map(({ id }) => id)).toEqual([1, 1])
    expect(answers!.filter(({ error }) => error !== undefined)).toHaveLength(1)
  })

  test('carries its members out in their order', async () => {
    const batch = ['basic', 'pro', 'premium', 'basic', 'pro'].map((tier, n) =>
      request(n, 'users.put', { userId: 'in-order', tier }),
    )
    const [answers] = (await answersTo(lines(batch))) as Answer[][]
    expect(answers!.map(({ id, result }) => [id, result.tier])).toEqual(
      batch.map(({ params }, n) => [n, (params as { tier: string }).tier]),
    )
    expect(await story.ok('users.get', { userId: 'in-order' })).toMatchObject({ tier: 'pro' })
  })

  test('whose answers would be too long is told so for what is beyond, and nothing is lost', async () => {
    // A page of the audit log with 1,000 entries is about 400 KB; 4 MiB of such answers are enough of a batch.
    const puts = Array.from({ length: 100 }, (_, n) => request(n, 'users.put', { userId: `filler-${n}` }))
    for (let round = 0; round < 10; round++) await answersTo(lines(puts))
    const query = (id: number) => request(id, 'audit.query', { limit: 1000 })
    const batch = Array.from({ length: 40 }, (_, id) =>
      id % 2 === 0 ? query(id) : request(id, 'system.ping'),
    )
    const [answers] = (await answersTo(lines(batch))) as Answer[][]
    expect(answers).toHaveLength(40)
    const large = answers!.filter(({ id }) => Number(id) % 2 === 0)
    const told = large.filter(({ error }) => error !== undefined)
    expect(told.length).toBeGreaterThan(0)
    expect(told.length).toBeLessThan(large.length)
    for (const { error } of told)
      expect(error).toMatchObject({ code: 1003, data: { type: 'Overloaded', retryable: true } })
    for (const { id, result } of answers!)
      if (Number(id) % 2 === 1) expect(result).toMatchObject({ pong: true })
    expect(JSON.stringify(answers).length).toBeLessThan(6 * 1024 * 1024)
  })
})

test('pipelined requests are each answered once, matched by id', async () => {
  const clients = Array.from({ length: 4 }, () => story.connect())
  const count = 500
  for (const client of clients) {
    let text = ''
    for (let id = 0; id < count; id++) {
      if (id % 5 === 0) text += lines(request(id, 'users.put', { userId: `p${id}` }))
      else if (id % 5 === 1) text += lines(request(id, 'no.such'))
      else if (id % 5 === 2) text += lines(request(undefined, 'system.ping'))
      else if (id % 5 === 3) text += lines([request(id, 'system.ping'), request(undefined, 'system.ping')])
      else text += lines(request(id, 'users.get', { userId: 5.5 }))
    }
    // Cut where it falls, so that lines come in pieces.
    for (let at = 0; at < text.length; at += 7919) client.send(text.slice(at, at + 7919))
  }
  for (const client of clients) {
    await until(() => client.answers.length >= count * 0.8)
    const ids = client.answers.flat().map(({ id }) => Number(id))
    expect(ids.sort((a, b) => a - b)).toEqual(
      Array.from({ length: count }, (_, n) => n).filter((n) => n % 5 !== 2),
    )
    const expected = ['ok', 'MethodNotFound', '', 'ok', 'InvalidParams']
    for (const answer of client.answers.flat())
      expect(answer.error?.data.type ?? 'ok').toBe(expected[Number(answer.id) % 5])
    expect(client.answers.filter(Array.isArray)).toHaveLength(count / 5)
  }
})

test('a client that half-closes still gets its answers, slow ones too', async () => {
  const slow = await Story.begin({ fastKdf: false })
  try {
    const client = slow.connect()
    const stores = Array.from({ length: 20 }, (_, n) =>
      request(n, 'credentials.store', { userId: `u${n}`, apiKey: 'k', apiSecret: 'c2VjcmV0' }),
    )
    client.socket.end(lines(...stores.slice(0, 10), stores.slice(10), request(99, 'system.ping')))
    await client.ended()
    expect(outcomes(client.answers)).toEqual(Array.from({ length: 21 }, () => 'ok'))
  } finally {
    await slow[Symbol.asyncDispose]()
  }
})
