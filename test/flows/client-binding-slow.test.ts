import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { lines, request } from './binding-acts.ts'
import { takingAway, tokenClient } from './clients.ts'
import { Story, until } from './story.ts'
import { halt, Watched } from './watch.ts'

// What a client loses while a request of its own has a slow step, or waits in a batch beside one that has.

const secretMark = '"apiSecret"'
const pipelinedCount = 256

let story: Story
let one: { userId: string; credentialId: number }
/** A tenth of a second of a core each to open, and quick ones. None is in memory: a store leaves nothing there. */
const slow: number[] = []
const quick: number[] = []

beforeAll(async () => {
  const settings = (memoryKib: number, iterations: number) =>
    `[kdf]\nmemory_kib = ${memoryKib}\niterations = ${iterations}\n[decrypt]\nlimit = 100000\n`
  const store = async (n: number) => await story.store('cold', n, { apiKey: `cold-${n}`, isPrimary: false })
  story = await Story.begin({ fastKdf: false, config: settings(65_536, 2) })
  // Two to a batch, four before the pipeline, one for the hello, and as many for a second try of half of them.
  for (let n = 0; n < takingAway.length * 3 + 8; n++) slow.push(await store(n))
  await story.restart(() => writeFileSync(join(story.purser.directory, 'purser.toml'), settings(8, 1)))
  quick.push(...(await Promise.all(Array.from({ length: pipelinedCount - 4 }, (_, n) => store(1000 + n)))))
  one = { userId: 'alice', credentialId: await story.store('alice', 1) }
  await story.ok('credentials.retrieve', one)
})
afterAll(() => story[Symbol.asyncDispose]())

const retrieves = (ids: readonly number[]) =>
  ids.map((credentialId) =>
    request(`cold-${credentialId}`, 'credentials.retrieve', { userId: 'cold', credentialId }),
  )
const takeSlow = (count: number) => retrieves(slow.splice(0, count))
const bot = () => tokenClient(story, { users: ['alice', 'cold'], scopes: ['credentials:read', 'spend'] })

async function opening(): Promise<void> {
  const other = story.connect()
  await until(async () => (await story.ok('system.status', {}, other)).derivations.running > 0)
}

test('256 pipelined cold retrieves of a removed token release nothing after the answer', async () => {
  const removed = await bot()
  const client = new Watched(removed.client)
  client.client.send(lines(...takeSlow(4), ...retrieves(quick)))
  await opening()
  await story.ok('clients.remove', { clientId: removed.clientId })
  const halted = await halt(story.purser.pid, [client])
  const withKernel = client.text.length
  const released = client.text.split(secretMark).length - 1
  halted.go()
  await until(() => client.text.split('\n').length - 1 === pipelinedCount)
  expect(client.text.slice(withKernel)).not.toContain(secretMark)
  // Else the test would show nothing.
  expect(released).toBeLessThan(pipelinedCount)
  const last = JSON.parse(client.text.trimEnd().split('\n').at(-1)!)
  expect(last.error.data).toMatchObject({ type: 'Forbidden' })
  await story.chainHolds()
})

test.each(takingAway)('$name: what is done but waits for its batch', async (act) => {
  const taken = await bot()
  taken.client.send(
    `${JSON.stringify([
      request('secret', 'credentials.retrieve', one),
      request('metadata', 'credentials.get', one),
      request('grant', 'spend.reserve', { userId: 'alice', amountUsd: '0.01' }),
      ...takeSlow(2),
    ])}\n`,
  )
  await opening()
  await story.ok(act.method, { clientId: taken.clientId, ...act.params })
  // Else the test would show nothing.
  expect(taken.client.answers).toEqual([])
  const answers = [await taken.client.answer()].flat()
  const told = (id: string) => answers.find((answer) => answer.id === id)!.error?.data.type ?? 'ok'
  expect(JSON.stringify(answers.slice(0, 3))).not.toContain(secretMark)
  expect(['Forbidden', 'NotFound']).toContain(told('secret'))
  // The grant stays where it is still allowed: it could not be asked for again.
  expect(told('grant')).toBe(act.name === 'fewer scopes' ? 'ok' : 'Forbidden')
  if (act.name === 'removal') expect(told('metadata')).toBe('Forbidden')
})

test('a hello changes nothing for what came before it, however slow', async () => {
  const { token } = await tokenClient(story, { users: ['alice'], credentials: [], scopes: ['spend'] })
  const client = story.connect()
  const [late] = takeSlow(1)
  client.send(
    lines(late!, request('hello', 'session.hello', { token }), { ...late!, id: 'behind' }) +
      lines(request('status', 'spend.status', { userId: 'alice' })),
  )
  await until(() => client.answers.length === 4)
  const told = new Map(client.answers.flat().map(({ id, error }) => [id, error?.data.type ?? 'ok']))
  expect([...told].sort()).toEqual(
    [
      [late!.id, 'ok'],
      ['hello', 'ok'],
      ['behind', 'Forbidden'],
      ['status', 'NotFound'],
    ].sort(),
  )
})
