import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { PurserClient } from '../../src/client/client.ts'
import {
  ConnectionLostError,
  type ConnectOptions,
  connect,
  isPurserError,
  ProtocolError,
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

  test('what is sent again comes before what was never sent, in its first order', async () => {
    const client = await connected({ maxInFlight: 2 })
    peer.onRequest = ({ params }, reply, connection) => {
      if (connection > 1) reply.result(params['cursor'])
      else if (params['cursor'] === '2') reply.socket.destroy()
    }
    await Promise.all(['1', '2', '3', '4'].map((cursor) => client.users.list({ cursor })))
    const sent = peer.requests.map(({ params, connection }) => `${connection}:${params['cursor']}`)
    expect(sent).toEqual(['1:1', '1:2', '2:1', '2:2', '2:3', '2:4'])
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
