import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Story, until } from '../flows/story.ts'
import { apiSecret } from '../support/flow.ts'
import type { Answer, RawClient } from '../support/raw-client.ts'
import { DeafClient, lines, request } from './wire.ts'

// Section 1 of the contract: the thousand connections, and who gives way to the thousand and first.

const connectionsMax = 1000
/** Callers turned away whose connection is not closed under their hands. */
const turnedAwayMax = 64

const root = path.resolve(import.meta.dirname, '../..')

const overloaded = {
  jsonrpc: '2.0',
  id: null,
  error: {
    code: 1003,
    message: expect.any(String),
    data: {
      type: 'Overloaded',
      retryable: true,
      hint: expect.any(String),
      retryAfterMs: expect.any(Number),
    },
  },
}

/** Opens connections one after another and asks something on each, so that earlier ones are idle for longer. */
async function fill(story: Story, count: number): Promise<RawClient[]> {
  const clients: RawClient[] = []
  for (let n = 0; n < count; n++) {
    const client = story.connect()
    clients.push(client)
    await story.ok('system.ping', {}, client)
  }
  return clients
}

/** Which of `clients` purser has closed, once a newcomer was served. */
async function displacedBy(
  newcomer: RawClient,
  story: Story,
  clients: readonly RawClient[],
): Promise<number[]> {
  const before = clients.map(({ closed }) => closed)
  await story.ok('system.ping', {}, newcomer)
  const closed = () => clients.flatMap((client, n) => (client.closed && !before[n] ? [n] : []))
  await until(() => closed().length > 0)
  return closed()
}

test('a thousand and first connection displaces the one that is longest without a request', async () => {
  await using story = await Story.begin()
  const clients = await fill(story, connectionsMax)
  // What is no complete request, or none at all, does not count as one.
  clients[0]!.send('{"jsonrpc":"2.0","id":1,')
  clients[0]!.send('\n\nno JSON\n')
  await clients[0]!.answer()
  const join = () => {
    const newcomer = story.connect()
    clients.push(newcomer)
    return newcomer
  }
  expect(await displacedBy(join(), story, clients)).toEqual([0])
  // Who asks is no longer the one that is longest without.
  await story.ok('system.ping', {}, clients[1]!)
  expect(await displacedBy(join(), story, clients)).toEqual([2])
  // A notification is a request too.
  clients[3]!.send(lines(request(undefined, 'system.ping')))
  await story.ok('system.ping', {}, clients[4]!)
  expect(await displacedBy(join(), story, clients)).toEqual([5])
  // An answer that was made but not taken is not in flight, nor what waits behind it.
  const deaf = clients[6]!
  deaf.socket.pause()
  deaf.send(lines(request(1, 'rpc.discover')).repeat(100))
  await new Promise((resolve) => setTimeout(resolve, 200))
  for (const client of clients)
    if (client !== deaf && !client.closed) await story.ok('system.ping', {}, client)
  await story.ok('system.ping', {}, story.connect())
  deaf.socket.resume()
  await until(() => deaf.closed)
  expect(clients.filter(({ closed }) => closed)).toHaveLength(4)
})

describe('while each of a thousand has a request in flight', () => {
  let story: Story
  let clients: RawClient[]

  beforeAll(async () => {
    // One derivation of a second or two: all who wait for the same opening are in flight until it is done.
    const kdf = { memory_kib: 262_144, iterations: 3 }
    story = await Story.begin({ fastKdf: false, config: { kdf } })
    await story.store('alice', 1)
    await story.restart()
    clients = await fill(story, connectionsMax)
  })
  afterAll(() => story[Symbol.asyncDispose]())

  test('newcomers get Overloaded with id null and are closed; then there is room again', async () => {
    for (const client of clients) client.send(lines(request(1, 'credentials.retrieve', { userId: 'alice' })))
    // The last of them was read once it is in flight; nobody can ask, so a newcomer tells.
    let newcomer = story.connect()
    while ((await newcomer.answer(() => true, 100).catch(() => null)) === null) newcomer = story.connect()
    const newcomers = Array.from({ length: 300 }, () => story.connect())
    // Some ask before they read: they must find their answer and its end, and not a reset.
    const failures: Error[] = []
    for (const one of newcomers.slice(0, 20)) {
      one.socket.on('error', (error) => failures.push(error))
      one.send(lines(request(1, 'system.ping')))
    }
    await until(() => newcomers.every(({ closed }) => closed))
    const fds = readdirSync(`/proc/${story.purser.pid}/fd`).length
    for (const { answers } of newcomers) expect(answers).toEqual([overloaded])
    expect(failures).toEqual([])
    expect(fds).toBeLessThan(connectionsMax + turnedAwayMax + 60)
    const answers = (await Promise.all(clients.map((client) => client.answer()))) as Answer[]
    for (const { result } of answers) expect(result).toMatchObject({ apiKey: 'key-1' })
    expect(clients.filter(({ closed }) => closed)).toEqual([])
    expect(await displacedBy(story.connect(), story, clients)).toHaveLength(1)
  })
})

test('without descriptors left it loses connections, not its life', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'purser-few-fds-'))
  try {
    const launcher = path.join(directory, 'purserd')
    writeFileSync(launcher, `#!/bin/sh\nulimit -n 80\nexec '${root}/bin/purserd' "$@"\n`)
    chmodSync(launcher, 0o755)
    await using story = await Story.begin({ launcher })
    await story.ok('credentials.store', { userId: 'alice', apiKey: 'k', apiSecret: apiSecret(1) })
    const crowd = Array.from({ length: 300 }, () => new DeafClient(story.purser.socketPath))
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(await story.ok('credentials.retrieve', { userId: 'alice' })).toMatchObject({ apiKey: 'k' })
    for (const one of crowd) one.close()
    await until(async () => (await story.ok('system.status')).connections.connections === 1)
    expect(await story.ok('system.ping', {}, story.connect())).toMatchObject({ pong: true })
    await story.chainHolds()
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
