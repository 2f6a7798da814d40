import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runner } from '../support/flow.ts'
import type { RawClient } from '../support/raw-client.ts'
import { lines, request } from './binding-acts.ts'
import { type Given, type TokenClient, takingAway, tokenClient } from './clients.ts'
import { Story, until } from './story.ts'
import { halt, Watched } from './watch.ts'

// The removal and the narrowing of a client bind at their answer, and its expiry at its time: after it, nothing they
// forbid is handed to the kernel on any connection.

const users = ['alice', 'many']
const scopes = ['credentials:read', 'spend']
const secretMark = '"apiSecret"'

let story: Story
let one: { userId: string; credentialId: number }

beforeAll(async () => {
  story = await Story.begin({ config: { decrypt: { limit: 100_000 } } })
  await Promise.all(Array.from({ length: 100 }, (_, n) => story.store('many', n, { apiKey: `many-${n}` })))
  one = { userId: 'alice', credentialId: await story.store('alice', 1) }
  await story.ok('credentials.retrieve', one)
})
afterAll(() => story[Symbol.asyncDispose]())

const bot = (given: Given = {}) => tokenClient(story, { users, scopes, ...given })
const take = ({ clientId }: TokenClient, { method, params }: (typeof takingAway)[number]) =>
  story.ok(method, { clientId, ...params })

/** Bytes that the kernel holds for one who does not read, and then some, but not so many that purser takes no more. */
const listed = Array.from({ length: 6 }, (_, n) => request(`l${n}`, 'credentials.list', { limit: 100 }))
const retrieved = () => Array.from({ length: 128 }, (_, n) => request(`s${n}`, 'credentials.retrieve', one))

async function fillQueue(client: RawClient): Promise<void> {
  client.send(lines(...listed, ...retrieved()))
  const look = story.connect()
  await until(async () => (await story.ok('system.status', {}, look)).connections.inFlight <= 1)
  await new Promise((resolve) => setTimeout(resolve, 100))
}
const queuedLines = listed.length + 128

describe.each(takingAway)('$name', (act) => {
  test('of one who asks as fast as it can', async () => {
    const taken = await bot()
    const client = new Watched(taken.client)
    let asked = 0
    const ask = () => client.client.send(lines(request(`r${asked++}`, 'credentials.retrieve', one)))
    let stopped = false
    client.client.socket.on('data', (text) => {
      for (let n = String(text).split('\n').length - 1; n > 0 && !stopped; n--) ask()
    })
    for (let n = 0; n < 6; n++) ask()
    await until(() => client.text.includes(secretMark))
    await take(taken, act)
    const halted = await halt(story.purser.pid, [client])
    const withKernel = client.text.length
    halted.go()
    await new Promise((resolve) => setTimeout(resolve, 20))
    stopped = true
    await until(() => client.text.split('\n').length - 1 === asked)
    expect(client.text.slice(withKernel)).not.toContain(secretMark)
    const { error } = await client.client.call('credentials.retrieve', one)
    expect(['Forbidden', 'NotFound']).toContain(error!.data.type)
  })

  test('of one who does not take its answers: the connection is closed, what waits dropped', async () => {
    const taken = await bot()
    const slow = new Watched(taken.client)
    slow.stopReading()
    await fillQueue(slow.client)
    await take(taken, act)
    const halted = await halt(story.purser.pid, [slow])
    const withKernel = slow.text
    halted.go()
    await slow.client.ended()
    expect(slow.text).toBe(withKernel)
    expect(withKernel.split('\n').length).toBeLessThan(queuedLines + 1)
  })
})

test('what widens a client, or changes another, leaves its answers alone', async () => {
  const [kept, other] = [await bot(), await bot()]
  const slow = new Watched(kept.client)
  slow.stopReading()
  await fillQueue(slow.client)
  await story.ok('clients.update', { clientId: kept.clientId, scopes: [...scopes, 'sign'], users: '*' })
  await story.ok('clients.remove', { clientId: other.clientId })
  slow.client.socket.resume()
  await until(() => slow.text.split('\n').length === queuedLines + 1)
  expect(slow.client.closed).toBe(false)
})

test('in one stream: who removes itself gets nothing behind that answer', async () => {
  const self = await bot({ users: '*', scopes: ['admin'] })
  const client = new Watched(self.client)
  const some = (prefix: string) =>
    lines(...Array.from({ length: 40 }, (_, n) => request(`${prefix}${n}`, 'credentials.retrieve', one)))
  client.client.send(
    some('before') + lines(request('act', 'clients.remove', { clientId: self.clientId })) + some('behind'),
  )
  await until(() => client.text.split('\n').length === 82)
  const [before, after] = client.text.split(/^.*"id":"act".*\n/m)
  expect(before).toContain(secretMark)
  expect(after).not.toContain(secretMark)
  for (const text of after!.trimEnd().split('\n'))
    expect(JSON.parse(text).error.data).toMatchObject({ type: 'Forbidden' })
})

test('an expiry binds at its time, for what waits too', async () => {
  const lifeMs = runner === 'delayed' ? 5000 : 2500
  const expiresAtMs = Date.now() + lifeMs
  const mortal = await bot({ expiresAt: new Date(expiresAtMs).toISOString() })
  const slow = new Watched(story.connect())
  await story.ok('session.hello', { token: mortal.token }, slow.client)
  slow.stopReading()
  await fillQueue(slow.client)
  await story.ok('credentials.retrieve', one, mortal.client)
  expect(Date.now()).toBeLessThan(expiresAtMs)
  await until(() => Date.now() > expiresAtMs)
  await story.refused('Forbidden', 'credentials.retrieve', one, mortal.client)
  await story.refused('Forbidden', 'session.hello', { token: mortal.token }, story.connect())
  const halted = await halt(story.purser.pid, [slow])
  const withKernel = slow.text
  halted.go()
  await slow.client.ended()
  expect(slow.text).toBe(withKernel)
})
