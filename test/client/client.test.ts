import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PurserClient } from '../../src/client/client.ts'
import {
  CallTimeoutError,
  ConnectionLostError,
  type ConnectOptions,
  connect,
  isPurserError,
  ProtocolError,
  PurserError,
  QueueFullError,
} from '../../src/client/index.ts'
import { helloResult, Peer, rejection, until } from './peer.ts'

let peer: Peer
const clients: PurserClient[] = []

beforeEach(async () => {
  peer = await Peer.start()
})
afterEach(async () => {
  peer.cut()
  await Promise.all(clients.splice(0).map((client) => client.close()))
  await peer[Symbol.asyncDispose]()
})

async function connected(options: ConnectOptions = {}): Promise<PurserClient> {
  const client = await connect({ socketPath: peer.socketPath, ...options })
  clients.push(client)
  return client
}

describe('calls', () => {
  test('a grouped method sends its wire name and params and gives the result', async () => {
    const client = await connected()
    peer.onRequest = ({ method, params }, reply) => reply.result({ method, params })
    expect(await client.credentials.retrieve({ userId: 'alice', credentialId: 3 })).toEqual({
      method: 'credentials.retrieve',
      params: { userId: 'alice', credentialId: 3 },
    })
    expect(await client.system.ping()).toEqual({ method: 'system.ping', params: {} })
    expect(await client.call('system.ping')).toEqual({ method: 'system.ping', params: {} })
    expect(await client.call('not.known.here', { a: 1 })).toEqual({
      method: 'not.known.here',
      params: { a: 1 },
    })
  })

  test('10,000 pipelined calls get each their own answer, never more than 200 open', async () => {
    let open = 0
    let mostOpen = 0
    peer.onRequest = ({ params }, reply) => {
      open += 1
      mostOpen = Math.max(mostOpen, open)
      setImmediate(() => {
        open -= 1
        reply.result(params['number'])
      })
    }
    const client = await connected()
    const numbers = Array.from({ length: 10_000 }, (_, number) => number)
    expect(await Promise.all(numbers.map((number) => client.call('echo', { number })))).toEqual(numbers)
    expect(mostOpen).toBeGreaterThan(100)
    expect(mostOpen).toBeLessThanOrEqual(200)
    expect(peer.requests.map(({ params }) => params['number'])).toEqual(numbers)
  })

  test('answers may come in any order', async () => {
    const held: (() => void)[] = []
    peer.onRequest = ({ params }, reply) => {
      held.push(() => reply.result(params['number']))
      if (held.length === 100) for (const answer of held.reverse()) answer()
    }
    const client = await connected()
    const numbers = Array.from({ length: 100 }, (_, number) => number)
    expect(await Promise.all(numbers.map((number) => client.call('echo', { number })))).toEqual(numbers)
  })

  test('an answer cut at every byte is still one answer', async () => {
    const answer = (id: number): Buffer =>
      Buffer.from(`${JSON.stringify({ jsonrpc: '2.0', id, result: 'é€𝄞' })}\n`)
    let at = 1
    peer.onRequest = ({ id }, reply) => {
      const bytes = answer(id)
      reply.raw(bytes.subarray(0, at))
      setTimeout(() => reply.raw(bytes.subarray(at)), 1)
    }
    const client = await connected()
    for (at = 1; at < answer(100).length; at += 1) expect(await client.call('echo')).toBe('é€𝄞')
  })

  test('answers of megabytes arrive whole', async () => {
    const long = 'ü'.repeat(3_000_000)
    peer.onRequest = (_request, reply) => reply.result(long)
    const client = await connected()
    const results = await Promise.all([client.call('long'), client.call('long')])
    expect(results.every((result) => result === long)).toBe(true)
  })

  test('params are taken as they are at the call', async () => {
    peer.onRequest = ({ params }, reply) => reply.result(params)
    const client = await connected()
    const params = { name: 'before' }
    const answer = client.call('echo', params)
    params.name = 'after'
    expect(await answer).toEqual({ name: 'before' })
  })

  test('beyond maxWaiting a call is rejected at once and the others are not touched', async () => {
    const held: (() => void)[] = []
    peer.onRequest = ({ params }, reply) => void held.push(() => reply.result(params['number']))
    const client = await connected({ maxInFlight: 2, maxWaiting: 3 })
    const calls = [0, 1, 2, 3, 4].map((number) => client.call('echo', { number }))
    expect(await rejection(client.call('echo', { number: 5 }))).toBeInstanceOf(QueueFullError)
    await until(() => held.length === 2)
    peer.onRequest = ({ params }, reply) => reply.result(params['number'])
    for (const answer of held) answer()
    expect(await Promise.all(calls)).toEqual([0, 1, 2, 3, 4])
  })

  test('what JSON cannot carry is rejected and costs nothing', async () => {
    const client = await connected()
    expect(await rejection(client.credentials.expiring({ withinDays: Number.NaN }))).toBeInstanceOf(TypeError)
    expect(await rejection(client.system.ping({}, { timeoutMs: 0 }))).toBeInstanceOf(TypeError)
    const tooLong = client.users.put({ userId: 'a', email: 'x'.repeat(70_000) })
    expect(isPurserError(await rejection(tooLong), 'FrameTooLarge')).toBe(true)
    await client.system.ping()
    expect(peer.methods()).toEqual(['system.ping'])
  })
})

describe('errors of the daemon', () => {
  test('reject their own call only, typed', async () => {
    peer.onRequest = ({ method }, reply) => {
      if (method === 'system.ping') return reply.result({ pong: true, at: 'now' })
      reply.error({
        code: 2002,
        message: 'conflicts with what is stored',
        data: { type: 'Conflict', retryable: false, hint: 'see data', resource: 'apiKey', field: null },
      })
    }
    const client = await connected()
    const [error] = await Promise.all([
      rejection(client.credentials.store({ userId: 'a', apiKey: 'k', apiSecret: 'c2VjcmV0' })),
      client.system.ping(),
    ])
    expect(error).toBeInstanceOf(PurserError)
    expect(isPurserError(error, 'Conflict') && error.data.resource).toBe('apiKey')
    expect(isPurserError(error, 'NotFound')).toBe(false)
    expect(client.connected).toBe(true)
  })
})

describe('timeouts and signals', () => {
  test('a timeout rejects its call, keeps the connection and ignores the late answer', async () => {
    const held: (() => void)[] = []
    peer.onRequest = ({ method }, reply) => {
      if (method === 'slow') held.push(() => reply.result('late'))
      else reply.result('quick')
    }
    const client = await connected()
    const error = await rejection(client.call('slow', {}, { timeoutMs: 20 }))
    expect(error).toBeInstanceOf(CallTimeoutError)
    expect(error).toMatchObject({ method: 'slow', timeoutMs: 20, sent: true })
    held[0]?.()
    expect(await client.call('quick')).toBe('quick')
    expect(peer.connections).toBe(1)
  })

  test('a call given up keeps its place until the daemon has answered it', async () => {
    const held: (() => void)[] = []
    peer.onRequest = (_request, reply) => void held.push(() => reply.result('late'))
    const client = await connected({ maxInFlight: 1 })
    await rejection(client.call('first', {}, { timeoutMs: 20 }))
    const second = await rejection(client.call('second', {}, { timeoutMs: 20 }))
    expect(second).toMatchObject({ name: 'CallTimeoutError', sent: false })
    const third = client.call('third')
    held[0]?.()
    await until(() => held.length === 2)
    held[1]?.()
    expect(await third).toBe('late')
    expect(peer.methods()).toEqual(['first', 'third'])
  })

  test('a signal rejects with its reason: before, while waiting and while on the way', async () => {
    const held: (() => void)[] = []
    peer.onRequest = (_request, reply) => void held.push(() => reply.result('done'))
    const client = await connected({ maxInFlight: 1 })
    const controller = new AbortController()
    const reason = new Error('no longer wanted')
    const sent = rejection(client.call('sent', {}, { signal: controller.signal }))
    const waiting = rejection(client.call('waiting', {}, { signal: controller.signal }))
    const kept = client.call('kept')
    await until(() => held.length === 1)
    controller.abort(reason)
    expect(await sent).toBe(reason)
    expect(await waiting).toBe(reason)
    expect(await rejection(client.call('late', {}, { signal: controller.signal }))).toBe(reason)
    held[0]?.()
    await until(() => held.length === 2)
    held[1]?.()
    expect(await kept).toBe('done')
    expect(peer.methods()).toEqual(['sent', 'kept'])
  })

  test('one signal for many calls warns of no leak', async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error): void => void warnings.push(warning)
    process.on('warning', onWarning)
    const client = await connected()
    const { signal } = new AbortController()
    for (let round = 0; round < 3; round += 1)
      await Promise.all(Array.from({ length: 100 }, () => client.system.ping({}, { signal })))
    await new Promise((resolve) => setImmediate(resolve))
    process.off('warning', onWarning)
    expect(warnings).toEqual([])
  })
})

describe('a server that breaks the protocol', () => {
  const cases: readonly [string, string | Uint8Array][] = [
    ['garbage', 'HTTP/1.1 400 Bad Request\r\n'],
    ['invalid UTF-8', Uint8Array.from([0x22, 0xff, 0xfe, 0x22, 0x0a])],
    ['random bytes', Uint8Array.from([0, 1, 2, 0x80, 0x0a, 0x0a])],
    ['an id never sent', '{"jsonrpc":"2.0","id":99999,"result":1}\n'],
    ['a batch', '[]\n'],
  ]
  test.each(cases)(
    '%s: rejects everything outstanding, closes, and may be called again',
    async (_name, bytes) => {
      const client = await connected({ maxInFlight: 2 })
      peer.onRequest = ({ method }, reply) => {
        if (method === 'credentials.get') reply.raw(bytes)
      }
      const get = () => client.credentials.get({ userId: 'a', credentialId: 1 })
      const errors = await Promise.all([rejection(get()), rejection(get()), rejection(get())])
      for (const error of errors) expect(error).toBeInstanceOf(ProtocolError)
      expect(client.connected).toBe(false)
      expect(peer.requests.length).toBe(2)
      peer.onRequest = (_request, reply) => reply.result('fine again')
      expect(await client.call('echo')).toBe('fine again')
      expect(peer.connections).toBe(2)
    },
  )

  test('an answer given twice is one too many', async () => {
    const client = await connected()
    peer.onRequest = (_request, reply) => {
      reply.result(1)
      reply.result(2)
    }
    expect(await client.call('echo')).toBe(1)
    await until(() => !client.connected)
  })

  test('an answer over maxAnswerBytes is refused before it is all here', async () => {
    const client = await connected({ maxAnswerBytes: 10_000 })
    let written = 0
    peer.onRequest = (_request, reply) => {
      const more = (): void => {
        written += 5000
        if (!reply.socket.destroyed && written < 50_000_000)
          reply.socket.write('x'.repeat(5000), () => more())
      }
      more()
    }
    expect(await rejection(client.system.ping())).toBeInstanceOf(ProtocolError)
    await until(() => !client.connected)
    expect(written).toBeLessThan(5_000_000)
  })
})

describe('a lost connection', () => {
  test('rejects what was sent and is no pure read, cut mid-answer too', async () => {
    const client = await connected()
    peer.onRequest = ({ id }, reply) => {
      reply.raw(`{"jsonrpc":"2.0","id":${id},"resu`)
      reply.socket.end()
    }
    const error = await rejection(client.credentials.retrieve({ userId: 'a' }))
    expect(error).toBeInstanceOf(ConnectionLostError)
    expect(error).toMatchObject({ method: 'credentials.retrieve' })
    expect(peer.requests.length).toBe(1)
  })

  test.each([
    ['a pure read', 'users.get', { userId: 'a' }, {}],
    ['a call with an idempotencyKey', 'spend.reserve', { idempotencyKey: 'k' }, {}],
    ['a call with an intentId', 'sign.order', { intentId: 'i' }, {}],
    ['a call marked resend', 'credentials.retrieve', { userId: 'a' }, { resend: true }],
  ])('%s is sent again', async (_name, method, params, options) => {
    const client = await connected()
    peer.onRequest = (_request, reply, connection) => {
      if (connection === 1) reply.socket.destroy()
      else reply.result('second time')
    }
    expect(await client.call(method as string, params, options)).toBe('second time')
    expect(peer.requests.map(({ params }) => params)).toEqual([params, params])
  })

  test('a request that kills every connection is sent four times at most', async () => {
    const client = await connected()
    peer.onRequest = (_request, reply) => void reply.socket.destroy()
    expect(await rejection(client.system.ping())).toBeInstanceOf(ConnectionLostError)
    expect(peer.requests.length).toBe(4)
  })

  test('what was not sent yet waits for the next connection, in order', async () => {
    const client = await connected({ maxInFlight: 1 })
    peer.onRequest = ({ params }, reply, connection) => {
      if (connection === 1) reply.socket.destroy()
      else reply.result(params['number'])
    }
    const first = rejection(client.call('act', { number: 0 }))
    const rest = [1, 2, 3].map((number) => client.call('act', { number }))
    expect(await first).toBeInstanceOf(ConnectionLostError)
    expect(await Promise.all(rest)).toEqual([1, 2, 3])
    expect(peer.requests.map(({ params }) => params['number'])).toEqual([0, 1, 2, 3])
  })

  test('calls live through a restart of the server', async () => {
    const client = await connected()
    for (let restart = 0; restart < 5; restart += 1) {
      expect(await client.system.ping()).toMatchObject({ pong: true })
      await peer.stop()
      const during = client.system.ping()
      await new Promise((resolve) => setTimeout(resolve, 30))
      await peer.listen()
      expect(await during).toMatchObject({ pong: true })
    }
    expect(peer.connections).toBe(6)
  })

  test('a call that found nobody says so when its time is up', async () => {
    const client = await connected()
    await peer.stop()
    await until(() => !client.connected)
    const error = await rejection(client.system.ping({}, { timeoutMs: 100 }))
    expect(error).toMatchObject({
      name: 'CallTimeoutError',
      sent: false,
      hint: expect.stringContaining('is purserd running?'),
      cause: { name: 'ConnectError', code: 'ENOENT' },
    })
  })

  test('attempts to reconnect come ever more slowly', async () => {
    const client = await connected()
    const attemptsMs: number[] = []
    peer.onConnection = (socket) => {
      attemptsMs.push(performance.now())
      socket.destroy()
    }
    peer.cut()
    await until(() => !client.connected)
    expect(await rejection(client.system.ping())).toBeInstanceOf(ConnectionLostError)
    expect(attemptsMs.length).toBe(4)
    const pausesMs = attemptsMs.slice(1).map((atMs, index) => atMs - (attemptsMs[index] ?? 0))
    // The first loss counts as one failure already: pauses of 50 to 100, 100 to 200, 200 to 400 ms.
    for (const [index, pauseMs] of pausesMs.entries()) expect(pauseMs).toBeGreaterThan(45 * 2 ** index)
  })

  test('with reconnect off nothing is sent again and the client is done', async () => {
    const client = await connected({ reconnect: false, maxInFlight: 1 })
    peer.onRequest = (_request, reply) => void reply.socket.destroy()
    const [sent, waiting] = await Promise.all([
      rejection(client.system.ping()),
      rejection(client.system.ping()),
    ])
    expect(sent).toMatchObject({ name: 'ConnectionLostError' })
    expect(waiting).toMatchObject({ name: 'ClientClosedError' })
    expect(await rejection(client.system.ping())).toMatchObject({ name: 'ClientClosedError' })
    expect(peer.connections).toBe(1)
  })
})

describe('session.hello', () => {
  test('is first on every connection, with client and token', async () => {
    peer.onRequest = ({ method }, reply) => reply.result(method === 'session.hello' ? helloResult : 'ok')
    const client = await connected({ client: 'bot/1', token: 'prs_token' })
    expect(client.hello).toEqual(helloResult)
    await client.call('first')
    for (let cut = 0; cut < 3; cut += 1) {
      peer.cut()
      await until(() => !client.connected)
      await Promise.all([client.call('a'), client.call('b')])
    }
    expect(peer.connections).toBe(4)
    for (let connection = 1; connection <= 4; connection += 1) {
      const ofConnection = peer.requests.filter((request) => request.connection === connection)
      expect(ofConnection[0]).toMatchObject({
        method: 'session.hello',
        params: { client: 'bot/1', token: 'prs_token' },
      })
      expect(ofConnection.filter(({ method }) => method === 'session.hello').length).toBe(1)
    }
  })

  test('is not sent where there is nothing to say', async () => {
    const client = await connected()
    await client.system.ping()
    expect(client.hello).toBeNull()
    expect(peer.methods()).toEqual(['system.ping'])
  })

  const forbidden = {
    code: 1001,
    message: 'not allowed',
    data: { type: 'Forbidden', retryable: false, hint: 'ask', scope: null },
  }

  test('a refused token rejects connect with what the daemon said', async () => {
    peer.onRequest = (_request, reply) => {
      reply.error(forbidden)
      reply.socket.end()
    }
    const error = await rejection(connect({ socketPath: peer.socketPath, token: 'prs_wrong' }))
    expect(isPurserError(error, 'Forbidden')).toBe(true)
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('prs_wrong')
  })

  test('a token refused at a reconnection rejects what waits, without trying on', async () => {
    peer.onRequest = (_request, reply) => reply.result(helloResult)
    const client = await connected({ token: 'prs_token' })
    peer.onRequest = (_request, reply) => {
      reply.error(forbidden)
      reply.socket.end()
    }
    peer.cut()
    await until(() => !client.connected)
    const errors = await Promise.all([rejection(client.system.ping()), rejection(client.call('act'))])
    for (const error of errors) expect(isPurserError(error, 'Forbidden')).toBe(true)
    expect(peer.connections).toBe(2)
  })

  test('another protocol version is refused', async () => {
    peer.onRequest = (_request, reply) => reply.result({ ...helloResult, protocol: 2 })
    expect(await rejection(connect({ socketPath: peer.socketPath, client: 'bot' }))).toBeInstanceOf(
      ProtocolError,
    )
  })

  test('an unanswered one rejects connect in time', async () => {
    peer.onRequest = () => {}
    const error = await rejection(connect({ socketPath: peer.socketPath, client: 'bot', timeoutMs: 50 }))
    expect(error).toMatchObject({ name: 'CallTimeoutError', method: 'session.hello' })
    await until(() => peer.connections === 1)
  })

  test('the token shows nowhere', async () => {
    peer.onRequest = (_request, reply) => reply.result(helloResult)
    const client = await connected({ token: 'prs_token' })
    expect(inspect(client, { depth: 9, showHidden: true })).not.toContain('prs_token')
    expect(JSON.stringify(client)).not.toContain('prs_token')
  })
})

describe('a connection turned away', () => {
  const overloaded = JSON.stringify({
    jsonrpc: '2.0',
    id: null,
    error: {
      code: 1003,
      message: 'too busy',
      data: { type: 'Overloaded', retryable: true, hint: 'wait', retryAfterMs: 100 },
    },
  })

  test('rejects an act with what the daemon said', async () => {
    peer.onConnection = (socket) => socket.end(`${overloaded}\n`)
    const client = await connected()
    const error = await rejection(client.call('act'))
    expect(isPurserError(error, 'Overloaded')).toBe(true)
    expect(error).toMatchObject({ retryable: true, retryAfterMs: 100 })
  })

  test('is tried again for a pure read', async () => {
    peer.onConnection = (socket, connection) => {
      if (connection < 3) socket.end(`${overloaded}\n`)
    }
    const client = await connected()
    expect(await client.system.ping()).toMatchObject({ pong: true })
    expect(peer.connections).toBe(3)
  })
})

describe('close', () => {
  test('lets what is on the way be answered, rejects what waits and everything after', async () => {
    const held: (() => void)[] = []
    peer.onRequest = (_request, reply) => void held.push(() => reply.result('answered'))
    const client = await connected({ maxInFlight: 1 })
    const sent = client.call('sent')
    const waiting = rejection(client.call('waiting'))
    await until(() => held.length === 1)
    const closed = client.close()
    expect(await waiting).toMatchObject({ name: 'ClientClosedError' })
    expect(await rejection(client.call('after'))).toMatchObject({ name: 'ClientClosedError' })
    held[0]?.()
    expect(await sent).toBe('answered')
    await closed
    await client.close()
    expect(client.connected).toBe(false)
  })

  test('does not wait for calls given up', async () => {
    peer.onRequest = () => {}
    const client = await connected()
    await rejection(client.call('never', {}, { timeoutMs: 10 }))
    await client.close()
  })

  test('ends an attempt to reconnect', async () => {
    const client = await connected()
    await peer.stop()
    await until(() => !client.connected)
    const waiting = rejection(client.system.ping())
    await client.close()
    expect(await waiting).toMatchObject({ name: 'ClientClosedError' })
  })

  test('happens at the end of an await using block', async () => {
    let left: PurserClient
    {
      await using client = await connected()
      left = client
      await client.system.ping()
    }
    expect(left.connected).toBe(false)
  })
})

describe('paginate', () => {
  test('walks every page with the params given and yields the items', async () => {
    const client = await connected()
    peer.onRequest = ({ params }, reply) => {
      const start = Number(params['cursor'] ?? 0)
      const users = [start, start + 1].map((number) => ({ userId: String(number) }))
      reply.result({ users, nextCursor: start < 4 ? String(start + 2) : null })
    }
    const seen: string[] = []
    for await (const user of client.paginate('users.list', { limit: 2 })) seen.push(user.userId)
    expect(seen).toEqual(['0', '1', '2', '3', '4', '5'])
    expect(peer.requests.map(({ params }) => params)).toEqual([
      { limit: 2 },
      { limit: 2, cursor: '2' },
      { limit: 2, cursor: '4' },
    ])
  })

  test('reads no page that is not asked for', async () => {
    const client = await connected()
    peer.onRequest = (_request, reply) => reply.result({ entries: [{ seq: 1 }], nextCursor: 'more' })
    for await (const entry of client.paginate('audit.query')) {
      expect(entry.seq).toBe(1)
      break
    }
    expect(peer.requests.length).toBe(1)
  })

  test('does not go round in circles, nor take what is no page', async () => {
    const client = await connected()
    const walk = async (): Promise<void> => {
      for await (const _user of client.paginate('users.list'));
    }
    peer.onRequest = (_request, reply) => reply.result({ users: [], nextCursor: 'same' })
    expect(await rejection(walk())).toBeInstanceOf(ProtocolError)
    peer.onRequest = (_request, reply) => reply.result({ nextCursor: null })
    expect(await rejection(walk())).toBeInstanceOf(ProtocolError)
  })
})
