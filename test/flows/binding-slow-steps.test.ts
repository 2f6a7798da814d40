import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bindingActs, byId, expectNothingForbidden, lines, old, request } from './binding-acts.ts'
import { Story, until } from './story.ts'
import { Watched } from './watch.ts'

// A request with a slow step in between looks again after it: a retrieve that is being opened, and one that is done
// but waits for the rest of its batch.

type Credential = { userId: string; credentialId: number }

let story: Story
/** Not in memory, and some 150 ms of a core to open; whatever else is sealed or opened is quick. */
const slowOnes: Credential[] = []

beforeAll(async () => {
  const kdf = (memoryKib: number, iterations: number) =>
    `[kdf]\nmemory_kib = ${memoryKib}\niterations = ${iterations}\n`
  story = await Story.begin({ fastKdf: false, config: kdf(65_536, 3) })
  await Promise.all(
    Array.from({ length: 24 }, async (_, index) => {
      const userId = `slow-${index}`
      const { credentialId } = await story.ok('credentials.store', { userId, ...old })
      slowOnes.push({ userId, credentialId })
    }),
  )
  await story.restart(() => writeFileSync(join(story.purser.directory, 'purser.toml'), kdf(8, 1)))
})
afterAll(() => story[Symbol.asyncDispose]())

const takeSlow = () => slowOnes.pop()!

let quickOnes = 0
async function makeQuick(): Promise<Credential> {
  quickOnes += 1
  const userId = `quick-${quickOnes}`
  const { credentialId } = await story.ok('credentials.store', { userId, ...old })
  return { userId, credentialId }
}

async function opening(): Promise<void> {
  const other = story.connect()
  await until(async () => (await story.ok('system.status', {}, other)).derivations.running > 0)
}

/** How long one of the slow ones takes to open at present. */
async function openingMs(): Promise<number> {
  const startedAt = performance.now()
  await story.ok('credentials.retrieve', takeSlow())
  return performance.now() - startedAt
}

test.each(bindingActs)('$name: a retrieve that is done but waits for its batch is made anew', async (act) => {
  const [one, slow] = [await makeQuick(), takeSlow()]
  await story.ok('credentials.retrieve', one)
  const batch = new Watched(story.connect())
  const told = await story.audited(async () => {
    batch.client.send(
      lines([
        request('done', 'credentials.retrieve', one),
        request('slow', 'credentials.retrieve', slow),
        request('ping', 'system.ping', {}),
      ]),
    )
    await opening()
    await story.ok(act.method, { ...one, ...act.params })
    // Else the test would show nothing.
    expect(batch.text).toBe('')
    const answers = await batch.client.answer()
    expect(byId(answers, 'done')).toMatchObject(act.afterwards)
    expect(byId(answers, 'slow')).toMatchObject({ result: old })
    expect(byId(answers, 'ping')).toMatchObject({ result: { pong: true } })
    expectNothingForbidden(JSON.stringify(byId(answers, 'done')), act)
  })
  // What is made anew is told of anew, once.
  const retrieved = told.filter(
    ({ userId, action }) => userId === one.userId && action === 'api_key_retrieved',
  )
  expect(retrieved).toHaveLength(2)
  expect(retrieved[0]).toMatchObject({ outcome: 'ok' })
})

test('a retrieve that waits for its batch is made anew where the credential has expired meanwhile', async () => {
  for (let attempt = 0; attempt < 5; attempt++) {
    const tookMs = await openingMs()
    const [one, slow] = [await makeQuick(), takeSlow()]
    const expiresAtMs = Date.now() + tookMs * 0.6
    await story.ok('credentials.update', { ...one, expiresAt: new Date(expiresAtMs).toISOString() })
    const before = await story.main.call('credentials.retrieve', one)
    story.main.send(
      lines([request('done', 'credentials.retrieve', one), request('slow', 'credentials.retrieve', slow)]),
    )
    const sentAtMs = Date.now()
    const answers = await story.main.answer(Array.isArray)
    // On a busy machine it may expire before it is asked for, or the slow one may be opened sooner than the last was.
    const wasInTime = before.result !== undefined && sentAtMs < expiresAtMs - 5
    if (!wasInTime || Date.now() < expiresAtMs) continue
    expect(byId(answers, 'slow')).toMatchObject({ result: old })
    expect(byId(answers, 'done')).toMatchObject({ error: { code: 2004 } })
    const { entries } = await story.ok('audit.query', { userId: one.userId, action: 'api_key_retrieved' })
    const outcomes = entries.map(({ outcome }: { outcome: string }) => outcome).reverse()
    // In time, in time, and then no more; or only once, where it expired on its way to its turn.
    expect([['ok', 'ok', 'denied'].join(), ['ok', 'denied'].join()]).toContain(outcomes.join())
    if (outcomes.length === 3) return
  }
  throw new Error('it never expired while it waited')
})

test('sign-only overtakes a retrieve that is being opened', async () => {
  const tookMs = await openingMs()
  const one = takeSlow()
  const act = bindingActs.find(({ name }) => name === 'sign-only')!
  const client = new Watched(story.connect())
  // It opens the old envelope itself, so the retrieve has to come later to be overtaken; one connection shows the order.
  client.client.send(lines(request('act', act.method, { ...one, ...act.params })))
  await new Promise((resolve) => setTimeout(resolve, tookMs * 0.6))
  client.client.send(lines(request('cold', 'credentials.retrieve', one)))
  await until(() => client.text.split('\n').length === 3)
  const [first, second] = client.text
    .trimEnd()
    .split('\n')
    .map((text) => JSON.parse(text))
  expect([first.id, second.id]).toEqual(['act', 'cold'])
  expect(second).toMatchObject(act.afterwards)
  expectNothingForbidden(client.text, act)
  expect(await story.ok('users.resetDecryptions', { userId: one.userId })).toEqual({ cleared: 1 })
})

test.each(bindingActs.filter(({ name }) => name !== 'sign-only'))(
  '$name: a retrieve that is being opened looks again after it, and counts once',
  async (act) => {
    const one = takeSlow()
    const cold = new Watched(story.connect())
    cold.client.send(lines(request('cold', 'credentials.retrieve', one)))
    await opening()
    await story.ok(act.method, { ...one, ...act.params })
    expect(cold.text).toBe('')
    const answer = await cold.client.answer()
    expect(answer).toMatchObject(act.afterwards)
    expectNothingForbidden(cold.text, act)
    expect(await story.ok('users.resetDecryptions', { userId: one.userId })).toEqual({ cleared: 1 })
  },
)

test('a retrieve overtaken by a rotation opens the new envelope, and counts once', async () => {
  const tookMs = await openingMs()
  const one = takeSlow()
  const rotated = story.main.call('credentials.rotate', one)
  await new Promise((resolve) => setTimeout(resolve, tookMs * 0.6))
  const answer = await story.connect().call('credentials.retrieve', one)
  expect(answer).toMatchObject({ result: old })
  expect(await rotated).toMatchObject({ result: { rotated: 1 } })
  expect(await story.ok('users.resetDecryptions', { userId: one.userId })).toEqual({ cleared: 1 })
})

test('a primary that is another by the time it is open: the one it is now is answered', async () => {
  const one = takeSlow()
  const { userId } = one
  const second = await story.store(userId, 2)
  const cold = story.connect().call('credentials.retrieve', { userId })
  await opening()
  await story.ok('credentials.update', { userId, credentialId: second, isPrimary: true })
  await story.ok('credentials.revoke', one)
  expect((await cold).result).toMatchObject({ credentialId: second, apiKey: 'key-2' })
})
