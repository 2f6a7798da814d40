import { getEventListeners } from 'node:events'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PurserClient } from '../../src/client/client.ts'
import {
  CallTimeoutError,
  type ConnectOptions,
  connect,
  isPurserError,
  ProtocolError,
  PurserError,
  QueueFullError,
} from '../../src/client/index.ts'
import { Peer, rejection, until } from './peer.ts'

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

  test('one signal for many calls warns of no leak and keeps no listener', async () => {
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
    expect(getEventListeners(signal, 'abort')).toEqual([])
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
