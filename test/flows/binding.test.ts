import { afterAll, beforeAll, expect, test } from 'vitest'
import { runner } from '../support/flow.ts'
import type { RawClient } from '../support/raw-client.ts'
import { bindingActs, byId, expectNothingForbidden, lines, old, request } from './binding-acts.ts'
import { Story, sample, until } from './story.ts'
import { halt, Watched } from './watch.ts'

// Revoke, expiry, replace and sign-only bind at their answer: once it is there, what they forbid is handed to the
// kernel on no connection.

/** Long enough to fill a queue before. */
const expiryMs = runner === 'delayed' ? 3000 : 1500

let story: Story
let users = 0
beforeAll(async () => {
  story = await Story.begin({ config: { decrypt: { limit: 100_000 } } })
})
afterAll(() => story[Symbol.asyncDispose]())

/** A credential of a user of its own, opened and in memory. */
async function prepare(): Promise<{ userId: string; credentialId: number }> {
  users += 1
  const userId = `user-${users}`
  const { credentialId } = await story.ok('credentials.store', { userId, ...old })
  await story.ok('credentials.retrieve', { userId, credentialId })
  return { userId, credentialId }
}

test.each(bindingActs)('$name in the midst of a pipeline: nothing behind its answer', async (act) => {
  const one = await prepare()
  const client = new Watched(story.connect())
  const some = (prefix: string) =>
    lines(...Array.from({ length: 40 }, (_, n) => request(`${prefix}${n}`, 'credentials.retrieve', one)))
  client.client.send(
    some('before') + lines(request('act', act.method, { ...one, ...act.params })) + some('behind'),
  )
  await until(() => client.text.split('\n').length === 82)
  client.client.send(some('after'))
  await until(() => client.text.split('\n').length === 122)
  const [before, after] = client.text.split(/^.*"id":"act".*\n/m)
  expect(before).toContain(old.privateKey)
  expectNothingForbidden(after!, act)
  const answers = after!.trimEnd().split('\n')
  expect(answers.length).toBeGreaterThanOrEqual(40)
  for (const text of answers) expect(JSON.parse(text)).toMatchObject(act.afterwards)
})

test.each(bindingActs)('$name: not even what waits behind a slow reader', async (act) => {
  const one = await prepare()
  const slow = new Watched(story.connect())
  slow.stopReading()
  await fillQueue(slow.client, one)
  await story.ok(act.method, { ...one, ...act.params })
  const halted = await halt(story.purser.pid, [slow])
  const withKernel = slow.text
  halted.go()
  await slow.client.ended()
  // What the kernel had is all that comes, and it is not all that was asked for.
  expect(slow.text).toBe(withKernel)
  expect(withKernel).toContain(old.privateKey)
  expect(withKernel.split('\n').length).toBeLessThan(257)
  const again = await story.main.call('credentials.retrieve', one)
  expect(again).toMatchObject(act.afterwards)
  expectNothingForbidden(JSON.stringify(again), act)
})

test('a slow reader of another credential is left alone, and gets all of it', async () => {
  const one = await prepare()
  const other = await prepare()
  const slow = new Watched(story.connect())
  slow.stopReading()
  await fillQueue(slow.client, other)
  for (const name of ['replace', 'sign-only', 'expiry', 'revoke']) {
    const act = bindingActs.find((found) => found.name === name)!
    await story.ok(act.method, { ...one, ...act.params })
  }
  slow.client.socket.resume()
  await until(() => slow.text.split('\n').length === 257)
  expect(slow.client.closed).toBe(false)
})

test('a slow reader is cut when the credential expires', async () => {
  const one = await prepare()
  const slow = new Watched(story.connect())
  const expiresAtMs = Date.now() + expiryMs
  await story.ok('credentials.update', { ...one, expiresAt: new Date(expiresAtMs).toISOString() })
  slow.stopReading()
  await fillQueue(slow.client, one)
  expect(Date.now()).toBeLessThan(expiresAtMs)
  await new Promise((resolve) => setTimeout(resolve, expiresAtMs + 100 - Date.now()))
  const halted = await halt(story.purser.pid, [slow])
  const withKernel = slow.text
  halted.go()
  await slow.client.ended()
  expect(slow.text).toBe(withKernel)
  expect(withKernel.split('\n').length).toBeLessThan(257)
})

test('a slow reader who has taken all before the credential expires is left alone', async () => {
  const one = await prepare()
  const slow = new Watched(story.connect())
  const expiresAtMs = Date.now() + expiryMs
  await story.ok('credentials.update', { ...one, expiresAt: new Date(expiresAtMs).toISOString() })
  slow.stopReading()
  await fillQueue(slow.client, one)
  slow.client.socket.resume()
  await until(() => slow.text.split('\n').length === 257)
  expect(Date.now()).toBeLessThan(expiresAtMs)
  await new Promise((resolve) => setTimeout(resolve, expiresAtMs + 100 - Date.now()))
  expect(slow.client.closed).toBe(false)
  expect(await story.ok('system.ping', {}, slow.client)).toMatchObject({ pong: true })
})

test('[retrieve, revoke] in one batch: the batch does not carry what it forbids', async () => {
  const one = await prepare()
  story.main.send(
    lines([
      request('first', 'credentials.retrieve', one),
      request('act', 'credentials.revoke', one),
      request('last', 'credentials.retrieve', one),
    ]),
  )
  const answers = await story.main.answer(Array.isArray)
  expect(byId(answers, 'act')).toMatchObject({ result: { status: 'revoked' } })
  for (const id of ['first', 'last']) expect(byId(answers, id)).toMatchObject({ error: { code: 2003 } })
})

test('as a notification it binds too', async () => {
  const one = await prepare()
  const slow = new Watched(story.connect())
  slow.stopReading()
  await fillQueue(slow.client, one)
  story.main.send(lines({ jsonrpc: '2.0', method: 'credentials.revoke', params: one }))
  await until(async () => (await story.ok('credentials.get', one)).status === 'revoked')
  const halted = await halt(story.purser.pid, [slow])
  const withKernel = slow.text
  halted.go()
  await slow.client.ended()
  expect(slow.text).toBe(withKernel)
})

test('a binding act that is refused binds nothing', async () => {
  const one = await prepare()
  const slow = new Watched(story.connect())
  slow.stopReading()
  await fillQueue(slow.client, one)
  await story.store('bob', 9)
  await story.refused('NotFound', 'credentials.revoke', { ...one, userId: 'bob' })
  await story.refused('InvalidParams', 'credentials.replace', { ...one, apiKey: 'k', apiSecret: '!' })
  await story.store(one.userId, 3)
  await story.refused('Conflict', 'credentials.replace', { ...sample(one.userId, 3), ...one })
  slow.client.socket.resume()
  await until(() => slow.text.split('\n').length === 257)
  expect(slow.client.closed).toBe(false)
})

/**
 * Asks 256 times for a credential on a connection that does not read, and waits until purser can hand over no more:
 * the kernel takes about 200 KiB of it, the rest is queued or waits to be carried out.
 */
async function fillQueue(client: RawClient, credential: object): Promise<void> {
  // Ids are echoed: they make each answer more than a kilobyte.
  const id = (n: number) => `${n}-${'i'.repeat(1000)}`
  let handedOver = await story.headSeq()
  client.send(
    lines(...Array.from({ length: 256 }, (_, n) => request(id(n), 'credentials.retrieve', credential))),
  )
  await until(async () => {
    const before = handedOver
    await new Promise((resolve) => setTimeout(resolve, 50))
    handedOver = await story.headSeq()
    return handedOver === before
  })
}
