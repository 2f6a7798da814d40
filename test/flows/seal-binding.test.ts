import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { byId, lines, old, request } from './binding-acts.ts'
import { Story, until } from './story.ts'
import { halt, Watched } from './watch.ts'

// A seal binds at its answer on every connection: what it forbids is handed to the kernel nowhere after it.

let story: Story
type Credential = { userId: string; credentialId: number }
/** Some tenths of a second of a core to open each time; the others are quick. */
const slowOnes: Credential[] = []
const quickOnes: Credential[] = []

const settings = (memoryKib: number, iterations: number, ttlSeconds = 0) =>
  `[kdf]\nmemory_kib = ${memoryKib}\niterations = ${iterations}\n[decrypt]\nlimit = 100000\n[cache]\nttl_seconds = ${ttlSeconds}\n`

beforeAll(async () => {
  story = await Story.begin({ fastKdf: false, config: settings(131_072, 3) })
  for (const userId of ['slow-1', 'slow-2']) slowOnes.push(await store(userId))
  await story.restart(() => writeFileSync(join(story.purser.directory, 'purser.toml'), settings(8, 1)))
  for (let n = 0; n < 4; n++) quickOnes.push(await store(`quick-${n}`))
})
afterAll(() => story[Symbol.asyncDispose]())
beforeEach(() => story.ok('system.unseal'))

async function store(userId: string): Promise<Credential> {
  const { credentialId } = await story.ok('credentials.store', { userId, ...old })
  return { userId, credentialId }
}

function expectNoSecret(text: string): void {
  for (const secret of Object.values(old)) expect(text).not.toContain(secret)
}

async function opening(): Promise<void> {
  const other = story.connect()
  await until(async () => (await story.ok('system.status', {}, other)).derivations.running > 0)
}

/** Retrieves of one credential and another, as lines. */
const retrieves = (prefix: string, count: number) =>
  lines(
    ...Array.from({ length: count }, (_, n) =>
      request(`${prefix}${n}`, 'credentials.retrieve', quickOnes[n % quickOnes.length]!),
    ),
  )

test('256 cold retrieves in a pipeline with a seal in their midst: nothing behind its answer', async () => {
  const client = new Watched(story.connect())
  const others = [1, 2].map(() => new Watched(story.connect()))
  for (const { client } of others) client.send(retrieves('other', 100))
  client.client.send(
    retrieves('before', 128) + lines(request('act', 'system.seal', {})) + retrieves('behind', 127),
  )
  await until(() => client.text.includes('"id":"act"'))
  const halted = await halt(story.purser.pid, others)
  const withKernel = others.map(({ text }) => text.length)
  halted.go()
  await until(() => client.text.split('\n').length === 257)
  await until(() => others.every(({ text }) => text.split('\n').length === 101))
  const after = client.text.split(/^.*"id":"act".*\n/m)[1]!
  expectNoSecret(after)
  for (const line of client.text.trimEnd().split('\n')) {
    const answer = JSON.parse(line)
    if (answer.id.startsWith('behind')) expect(answer.error).toMatchObject({ code: 1004 })
  }
  for (const [index, { text }] of others.entries()) expectNoSecret(text.slice(withKernel[index]))
})

test('a retrieve that is being opened is refused at its second look, and the seal waits for it', async () => {
  const cold = new Watched(story.connect())
  const told = await story.audited(async () => {
    cold.client.send(lines(request('cold', 'credentials.retrieve', slowOnes[0]!)))
    await opening()
    await story.ok('system.seal')
    // It has ended, and its memory is wiped, when the seal is answered.
    expect((await story.ok('system.status')).derivations).toEqual({ running: 0, waiting: 0 })
    expect(await cold.client.answer()).toMatchObject({ error: { code: 1004 } })
    expectNoSecret(cold.text)
  })
  expect(told.map(({ action, outcome, details }) => [action, outcome, details['error']])).toEqual([
    ['system_sealed', 'ok', undefined],
    ['api_key_retrieved', 'denied', 'Sealed'],
  ])
})

test('a store, a replace and a rotation that are under way are refused too, and store nothing', async () => {
  const [one] = slowOnes
  const { counts } = await story.ok('system.status')
  const before = await story.ok('credentials.get', one)
  const acts: [string, object][] = [
    ['credentials.rotate', one!],
    ['credentials.replace', { ...one, apiKey: 'new', apiSecret: old.apiSecret }],
    ['credentials.update', { ...one, privateKeyPolicy: 'sign-only' }],
  ]
  const answers = acts.map(([method, params]) => story.connect().call(method, params))
  await opening()
  await story.ok('system.seal')
  for (const answer of await Promise.all(answers)) expect(answer).toMatchObject({ error: { code: 1004 } })
  expect(await story.ok('credentials.get', one)).toEqual(before)
  expect((await story.ok('system.status')).counts).toMatchObject({ credentials: counts.credentials })
})

test('a retrieve that is done but waits for its batch: with it before the answer of the seal, or not at all', async () => {
  const client = new Watched(story.connect())
  const [quick] = quickOnes
  client.client.send(
    lines([
      request('done', 'credentials.retrieve', quick!),
      request('ping', 'system.ping', {}),
      request('slow', 'credentials.retrieve', slowOnes[1]!),
    ]),
  )
  await opening()
  expect(client.text).toBe('')
  client.client.send(lines(request('act', 'system.seal', {})))
  await until(() => client.text.split('\n').length === 3)
  const [before, after] = client.text.split(/^.*"id":"act".*\n/m)
  expectNoSecret(after!)
  const answers = JSON.parse(before || after!)
  // The seal ends what the batch waited for.
  expect(byId(answers, 'slow')).toMatchObject({ error: { code: 1004 } })
  expect(byId(answers, 'ping')).toMatchObject({ result: { pong: true } })
})

test('what waits in purser behind a slow reader is dropped with its connection', async () => {
  const slow = new Watched(story.connect())
  slow.stopReading()
  let handedOver = await story.headSeq()
  const id = (n: number) => `${n}-${'i'.repeat(1000)}`
  slow.client.send(
    lines(...Array.from({ length: 256 }, (_, n) => request(id(n), 'credentials.retrieve', quickOnes[0]!))),
  )
  await until(async () => {
    const before = handedOver
    await new Promise((resolve) => setTimeout(resolve, 100))
    handedOver = await story.headSeq()
    return handedOver === before
  })
  await story.ok('system.seal')
  const halted = await halt(story.purser.pid, [slow])
  const withKernel = slow.text
  halted.go()
  await slow.client.ended()
  expect(slow.text).toBe(withKernel)
  expect(withKernel).toContain(old.privateKey)
  expect(withKernel.split('\n').length).toBeLessThan(257)
})

test('[retrieve, seal, retrieve] in one batch: the batch carries no secret', async () => {
  const [quick] = quickOnes
  story.main.send(
    lines([
      request('first', 'credentials.retrieve', quick!),
      request('act', 'system.seal', {}),
      request('last', 'credentials.retrieve', quick!),
    ]),
  )
  const answers = await story.main.answer(Array.isArray)
  expect(byId(answers, 'act')).toMatchObject({ result: { sealed: true } })
  for (const id of ['first', 'last']) expect(byId(answers, id)).toMatchObject({ error: { code: 1004 } })
})

test('seals and unseals among retrieves, at random: whoever is refused is refused for that, and the chain holds', async () => {
  const clients = Array.from({ length: 3 }, () => story.connect())
  for (let round = 0; round < 8; round++) {
    for (const client of clients) client.send(retrieves(`r${round}-`, 12))
    const acts = story.connect()
    acts.send(lines(request('seal', 'system.seal', {}), request('unseal', 'system.unseal', {})))
    await acts.answer()
    await acts.answer()
    for (const client of clients) {
      for (let n = 0; n < 12; n++) {
        const answer = [await client.answer()].flat()[0]!
        if (answer.error !== undefined) expect(answer.error.code).toBe(1004)
      }
    }
    await story.ok('system.unseal')
    expect(await story.ok('credentials.retrieve', quickOnes[1])).toMatchObject(old)
  }
  await story.chainHolds()
})
