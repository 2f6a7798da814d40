import { afterEach, beforeEach, expect, test } from 'vitest'
import { Story, until } from '../flows/story.ts'
import { apiSecret } from '../support/flow.ts'
import { DeafClient, lines, outcomes, request } from './wire.ts'

// Section 2 of the contract: a stop that cannot end well for everybody ends in time all the same.

const stopMsMax = 5000

let story: Story
beforeEach(async () => {
  // About 0.06 s a derivation.
  story = await Story.begin({ fastKdf: false, config: { kdf: { memory_kib: 32_768, iterations: 3 } } })
})
afterEach(() => story[Symbol.asyncDispose]())

const store = (id: number, userId = `u${id}`) =>
  request(id, 'credentials.store', { userId, apiKey: 'k', apiSecret: apiSecret(1) })

async function stops(): Promise<{ code: number | null; tookMs: number }> {
  const startedAt = performance.now()
  const { code } = await story.purser.kill('SIGTERM')
  return { code, tookMs: performance.now() - startedAt }
}

test('who does not take answers is cut, who sends without end is not waited for', async () => {
  const deaf = Array.from({ length: 5 }, () => new DeafClient(story.purser.socketPath))
  for (const client of deaf) client.send(lines(request(1, 'rpc.discover')).repeat(100))
  const busy = story.connect()
  busy.send(lines(store(0), store(1), store(2)))
  await until(async () => (await story.ok('system.status')).connections.inFlight > 3)
  const flooding = story.connect()
  let sending = true
  const flood = () => {
    while (
      sending &&
      flooding.socket.writable &&
      flooding.socket.write(lines(request(1, 'system.ping')).repeat(100))
    );
  }
  flooding.socket.on('drain', flood)
  flood()
  const { code, tookMs } = await stops()
  sending = false
  expect(code).toBe(0)
  expect(tookMs).toBeLessThan(stopMsMax)
  expect(outcomes(busy.answers)).toEqual(['ok', 'ok', 'ok'])
  for (const client of deaf) client.close()
})

test('far more under way than a stop has time for: those are cut, and the store is whole', async () => {
  const clients = Array.from({ length: 2 }, () => story.connect())
  for (const [n, client] of clients.entries())
    client.send(lines(...Array.from({ length: 200 }, (_, id) => store(id, `u${n}-${id}`))))
  await until(async () => (await story.ok('system.status')).connections.inFlight > 300)
  const { code, tookMs } = await stops()
  expect(code).toBe(0)
  expect(tookMs).toBeLessThan(stopMsMax)
  const answered = clients
    .flatMap(({ answers }) => answers.flat())
    .filter(({ result }) => result !== undefined)
  expect(answered.length).toBeGreaterThan(0)
  expect(answered.length).toBeLessThan(400)
  await story.purser.restart()
  expect((await story.ok('credentials.list', { limit: 1000 })).credentials.length).toBeGreaterThanOrEqual(
    answered.length,
  )
  await story.chainHolds()
})
