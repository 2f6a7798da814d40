import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { StartPurserOptions } from '../../src/testing/index.ts'
import { Story, until } from '../flows/story.ts'
import { apiSecret } from '../support/flow.ts'
import type { RawClient } from '../support/raw-client.ts'
import { lines, outcomes, request } from './wire.ts'

// Section 1 of the contract: how many requests of one connection are in flight, and that purser then stops reading it.

const inFlightMax = 256
/** What a socket and purser's own buffers hold of a connection that is not read: the kernel's part is about 210 KiB. */
const heldBytesMax = 600 * 1024

let story: Story
const stories: Story[] = []
async function begin(options: StartPurserOptions): Promise<void> {
  story = await Story.begin({ fastKdf: false, ...options })
  stories.push(story)
}
afterEach(async () => {
  for (const one of stories.splice(0)) {
    // What is under way here takes longer than a drain.
    await one.purser.kill('SIGKILL').catch(() => undefined)
    await one[Symbol.asyncDispose]()
  }
})

let nextUser = 0
/** A request that takes as long as a derivation. */
const store = (id: number) =>
  request(id, 'credentials.store', { userId: `u${nextUser++}`, apiKey: 'k', apiSecret: apiSecret(1) })

/** Requests in flight on other connections than `main`, whose own question counts too. */
async function inFlight(): Promise<number> {
  return (await story.ok('system.status')).connections.inFlight - 1
}

/** The most that was ever in flight until `done`. */
async function mostInFlight(done: () => boolean): Promise<number> {
  let most = 0
  while (!done()) most = Math.max(most, await inFlight())
  return most
}

describe('slow requests', () => {
  // About 3 ms a derivation.
  beforeEach(() => begin({ config: { kdf: { memory_kib: 2048 } } }))

  test('at most 256 are in flight, and all are answered in the end', async () => {
    const client = story.connect()
    client.send(lines(...Array.from({ length: 300 }, (_, id) => store(id))))
    expect(await mostInFlight(() => client.answers.length === 300)).toBe(inFlightMax)
    expect(outcomes(client.answers)).toEqual(Array.from({ length: 300 }, () => 'ok'))
    expect(await inFlight()).toBe(0)
  })

  test('batch members count: a batch waits until there is room for all of it', async () => {
    const client = story.connect()
    const batch = (first: number) => Array.from({ length: 100 }, (_, n) => store(first + n))
    client.send(lines(batch(0), batch(100), batch(200)))
    expect(await mostInFlight(() => client.answers.length === 3)).toBe(200)
    expect(outcomes(client.answers)).toEqual(Array.from({ length: 300 }, () => 'ok'))
  })

  test('notifications count too', async () => {
    const client = story.connect()
    const quiet = Array.from({ length: 300 }, () => ({ ...store(0), id: undefined }))
    client.send(lines(...quiet, request(1, 'system.ping')))
    expect(await mostInFlight(() => client.answers.length === 1)).toBe(inFlightMax)
    await until(async () => (await inFlight()) === 0)
    expect((await story.ok('system.status')).counts.credentials).toBe(300)
  })

  test('requests of a client that has gone are carried out to their end, and no longer in flight', async () => {
    const client = story.connect()
    client.send(lines(...Array.from({ length: 100 }, (_, id) => store(id))))
    await until(async () => (await inFlight()) > 0)
    client.close()
    await until(async () => (await inFlight()) === 0)
    expect((await story.ok('system.status')).counts.credentials).toBe(100)
  })
})

describe('very slow requests', () => {
  // About 0.3 s a derivation: 256 of them last longer than the test.
  beforeEach(() => begin({ config: { kdf: { memory_kib: 131_072, iterations: 2 } } }))

  async function fill(client: RawClient): Promise<void> {
    client.send(lines(...Array.from({ length: inFlightMax }, (_, id) => store(id))))
    await until(async () => (await inFlight()) === inFlightMax)
  }

  test('beyond the bound the connection is not read, and others do not notice', async () => {
    const client = story.connect()
    await fill(client)
    const chunk = lines(...Array.from({ length: 500 }, (_, id) => request(1000 + id, 'system.ping')))
    for (let sent = 0; sent < 8 * 1024 * 1024; sent += chunk.length) client.send(chunk)
    await new Promise((resolve) => setTimeout(resolve, 300))
    const taken = () => client.socket.bytesWritten - client.socket.writableLength
    expect(taken()).toBeLessThan(heldBytesMax)
    // Not one of the pings behind them has had its turn before one of the slow ones was answered.
    const answered = client.answers.length
    const slow = client.answers.flat().filter(({ id }) => Number(id) < inFlightMax).length
    expect(answered === 0 || slow > 0).toBe(true)
    const askedAt = performance.now()
    await story.ok('system.ping', {}, story.connect())
    expect(performance.now() - askedAt).toBeLessThan(1000)
  })

  test('room for one is given to one, at its turn', async () => {
    const client = story.connect()
    await fill(client)
    client.send(lines(request(1000, 'system.ping'), request(1001, 'system.ping')))
    await client.answer((answer) => !Array.isArray(answer) && answer.id === 1000)
    expect(await inFlight()).toBeLessThanOrEqual(inFlightMax)
    await client.answer((answer) => !Array.isArray(answer) && answer.id === 1001)
  })
})

test('one answer that may be large is worked on at a time, whatever else is answered meanwhile', async () => {
  await begin({ fastKdf: true })
  for (let round = 0; round < 12; round++) {
    const puts = Array.from({ length: 100 }, (_, n) => request(n, 'users.put', { userId: `u${n}` }))
    story.main.send(lines(puts))
    await story.main.answer(Array.isArray)
  }
  const client = story.connect()
  client.socket.pause()
  // Each page is about 400 KB, more than a connection may have waiting for it.
  const asked = Array.from({ length: 40 }, (_, id) =>
    id % 2 === 0 ? request(id, 'audit.query', { limit: 1000 }) : request(id, 'system.ping'),
  )
  const jobs = async (): Promise<number> => (await story.ok('system.status')).commits.jobs
  const before = await jobs()
  client.send(lines(...asked))
  await new Promise((resolve) => setTimeout(resolve, 500))
  // Each page is two looks into the store, and two pages are more than is made for a client that takes none.
  expect((await jobs()) - before).toBeLessThan(12)
  client.send(lines(request(undefined, 'users.put', { userId: 'behind' })))
  await new Promise((resolve) => setTimeout(resolve, 100))
  expect((await story.main.call('users.get', { userId: 'behind' })).error!.data.type).toBe('NotFound')
  client.socket.resume()
  await until(() => client.answers.length === 40)
  expect(outcomes(client.answers)).toEqual(Array.from({ length: 40 }, () => 'ok'))
  await until(async () => (await story.main.call('users.get', { userId: 'behind' })).error === undefined)
})
