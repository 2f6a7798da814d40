import { afterEach, beforeEach, expect, test } from 'vitest'
import { Story, until } from '../flows/story.ts'
import { apiSecret } from '../support/flow.ts'
import type { Answer, RawClient } from '../support/raw-client.ts'
import { invalidRequest, lines, outcomes, parseError, request } from './wire.ts'

// Section 2 of the contract: SIGTERM drains, and the process is gone within 5 s. (What start and stop are in all is in
// test/start/stop.test.ts.)

const stopMsMax = 5000
/** Over half a second of derivations, which a machine that stalls does not miss. */
const underWay = 20

let story: Story
beforeEach(async () => {
  // About 0.06 s a derivation: there is time to do something while some of them run.
  story = await Story.begin({ fastKdf: false, config: { kdf: { memory_kib: 32_768, iterations: 3 } } })
})
afterEach(() => story[Symbol.asyncDispose]())

const store = (id: number | undefined, userId = `u${id}`) =>
  request(id, 'credentials.store', { userId, apiKey: 'k', apiSecret: apiSecret(1) })

/** Puts `count` slow requests under way on `client`; the first of them may be done when this sees the others. */
async function begin(client: RawClient, count: number): Promise<void> {
  client.send(lines(...Array.from({ length: count }, (_, id) => store(id))))
  await until(async () => (await story.ok('system.status')).connections.inFlight > Math.ceil(count / 2))
}

async function stops(): Promise<{ code: number | null; tookMs: number }> {
  const startedAt = performance.now()
  const { code } = await story.purser.kill('SIGTERM')
  return { code, tookMs: performance.now() - startedAt }
}

/** How a daemon that stops answers to `text` on `client`, which was open before. */
async function answersWhileStopping(
  client: RawClient,
  text: string,
  count: number,
): Promise<(Answer | Answer[])[]> {
  const before = client.answers.length
  client.send(text)
  await until(() => client.answers.length >= before + count || client.closed, 4000)
  return client.answers.slice(before)
}

test('requests under way are answered, new ones are Overloaded on every connection, none of them is carried out', async () => {
  const busy = story.connect()
  const idle = story.connect()
  await story.ok('system.ping', {}, idle)
  await begin(busy, underWay)
  const stopped = stops()
  await new Promise((resolve) => setTimeout(resolve, 60))
  const batch = [
    request(2, 'system.ping'),
    request(undefined, 'users.put', { userId: 'late' }),
    null,
    request(3, 'no.such'),
  ]
  const asked = lines(
    request(1, 'users.put', { userId: 'late' }),
    request(undefined, 'users.put', { userId: 'late' }),
    batch,
    [request(undefined, 'users.put', { userId: 'late' })],
  )
  const [single, array] = (await answersWhileStopping(idle, asked, 2)).sort((a) =>
    Array.isArray(a) ? 1 : -1,
  )
  const overloaded = (id: number) => ({
    id,
    error: { code: 1003, data: { type: 'Overloaded', retryable: true } },
  })
  expect(single).toMatchObject(overloaded(1))
  expect(array).toHaveLength(3)
  for (const id of [2, 3])
    expect([array].flat().find((answer) => answer?.id === id)).toMatchObject(overloaded(id))
  expect(array).toContainEqual(invalidRequest)
  // What is no request is still told so, and not Overloaded.
  expect(await answersWhileStopping(idle, 'null\n[]\nx\n', 3)).toEqual([
    invalidRequest,
    invalidRequest,
    parseError,
  ])
  await until(() => busy.answers.length === underWay)
  expect(outcomes(busy.answers)).toEqual(Array.from({ length: underWay }, () => 'ok'))
  await idle.ended()
  const { code, tookMs } = await stopped
  expect(code).toBe(0)
  expect(tookMs).toBeLessThan(stopMsMax)
  expect(idle.answers).toHaveLength(5)
  await story.purser.restart()
  expect((await story.main.call('users.get', { userId: 'late' })).error!.data.type).toBe('NotFound')
  expect((await story.ok('users.list')).users).toHaveLength(underWay)
})

test('what was sent before the signal, but not read, is told of', async () => {
  const clients = Array.from({ length: 50 }, () => story.connect())
  await Promise.all(clients.map((client) => story.ok('system.ping', {}, client)))
  process.kill(story.purser.pid, 'SIGSTOP')
  for (const client of clients) client.send(lines(request(1, 'system.ping')))
  await new Promise((resolve) => setTimeout(resolve, 50))
  process.kill(story.purser.pid, 'SIGTERM')
  process.kill(story.purser.pid, 'SIGCONT')
  await Promise.all(clients.map((client) => client.ended()))
  for (const { answers } of clients) {
    expect(answers).toHaveLength(1)
    expect(['ok', 'Overloaded']).toContain(outcomes(answers)[0])
  }
})

test('who waits to be accepted is let in and told, and not reset', async () => {
  await story.ok('system.ping')
  process.kill(story.purser.pid, 'SIGSTOP')
  const waiting = Array.from({ length: 100 }, () => story.connect())
  const failures: Error[] = []
  for (const { socket } of waiting) socket.on('error', (error) => failures.push(error))
  const asking = waiting.filter((_, n) => n % 2 === 0)
  for (const client of asking) client.send(lines(request(1, 'system.ping')))
  await new Promise((resolve) => setTimeout(resolve, 50))
  process.kill(story.purser.pid, 'SIGTERM')
  process.kill(story.purser.pid, 'SIGCONT')
  await Promise.all(waiting.map((client) => client.ended()))
  expect(failures).toEqual([])
  expect(waiting.filter(({ answers }) => answers.length > 0)).toEqual(asking)
  // The first of them may have been let in before the signal was heard.
  const told = asking.flatMap(({ answers }) => outcomes(answers))
  expect(told.filter((outcome) => outcome === 'Overloaded').length).toBeGreaterThan(40)
})

test('a notification under way is carried out', async () => {
  story.main.send(lines(store(undefined, 'quiet')))
  await until(async () => (await story.ok('system.status', {}, story.connect())).derivations.running > 0)
  expect((await stops()).code).toBe(0)
  await story.purser.restart()
  expect((await story.ok('credentials.list', { userId: 'quiet' })).credentials).toHaveLength(1)
})

test('a client that is slow to read gets all of an answer that is under way', async () => {
  for (let round = 0; round < 10; round++) {
    story.main.send(
      lines(Array.from({ length: 100 }, (_, n) => request(n, 'users.put', { userId: `u${n}` }))),
    )
    await story.main.answer(Array.isArray)
  }
  const slow = story.connect()
  slow.send(lines(request(1, 'audit.query', { limit: 1000 })))
  slow.socket.pause()
  await begin(story.connect(), 1)
  const stopped = stops()
  // Longer than a connection that was ended may take to close its own end.
  await new Promise((resolve) => setTimeout(resolve, 1800))
  slow.socket.resume()
  expect(((await slow.answer()) as Answer).result.entries).toHaveLength(1000)
  const { code, tookMs } = await stopped
  expect(code).toBe(0)
  expect(tookMs).toBeLessThan(stopMsMax)
})
