import { describe, expect, test } from 'vitest'
import { type BindingAct, bindingActs, expectNothingForbidden, old, request } from '../flows/binding-acts.ts'
import { randomOf, Story, testSeed, until } from '../flows/story.ts'
import { halt, Watched } from '../flows/watch.ts'
import { stores } from './stores.ts'

// N clients ask for a credential as fast as they can while it is revoked, replaced, made sign-only or expired, at a
// moment that a seed chooses. Whoever asks after the answer is refused or gets the new one, and no byte of the old one
// is handed to the kernel after it.

const seed = testSeed()
const clientsMax = 4
/** Requests of each client under way. */
const pipelined = 6
const rounds = Number(process.env['PURSER_TEST_RACE_ROUNDS'] ?? 3)

type Asked = { id: string; sentAtMs: number }

/** Keeps some requests under way until it is told to stop. */
class Hammer {
  readonly watched: Watched
  readonly asked: Asked[] = []
  readonly #params: object
  #stopped = false

  constructor(story: Story, params: object) {
    this.watched = new Watched(story.connect())
    this.#params = params
    this.watched.client.socket.on('data', (text) => {
      const answered = String(text).split('\n').length - 1
      for (let n = 0; n < answered; n++) this.#ask()
    })
    for (let n = 0; n < pipelined; n++) this.#ask()
  }

  stop(): void {
    this.#stopped = true
  }

  get done(): boolean {
    return this.watched.text.split('\n').length - 1 === this.asked.length
  }

  #ask(): void {
    if (this.#stopped) return
    const id = `r${this.asked.length}`
    this.asked.push({ id, sentAtMs: performance.now() })
    this.watched.client.send(`${JSON.stringify(request(id, 'credentials.retrieve', this.#params))}\n`)
  }
}

async function race(story: Story, act: BindingAct, userId: string, random: () => number): Promise<void> {
  const { credentialId } = await story.ok('credentials.store', { userId, ...old })
  const one = { userId, credentialId }
  const hammers = Array.from(
    { length: clientsMax },
    (_, index) => new Hammer(story, index % 2 === 0 ? one : { userId }),
  )
  await until(() => hammers.every(({ watched }) => watched.text.length > 0))
  await new Promise((resolve) => setTimeout(resolve, random() * 15))
  await story.ok(act.method, { ...one, ...act.params })
  const boundAtMs = performance.now()
  const halted = await halt(
    story.purser.pid,
    hammers.map(({ watched }) => watched),
  )
  const withKernel = hammers.map(({ watched }) => watched.text.length)
  halted.go()
  await new Promise((resolve) => setTimeout(resolve, 15))
  for (const hammer of hammers) hammer.stop()
  await until(() => hammers.every(({ done }) => done))

  let handedOut = 0
  let refused = 0
  for (const [index, { watched, asked }] of hammers.entries()) {
    expectNothingForbidden(watched.text.slice(withKernel[index]), act)
    const sentAt = new Map(asked.map(({ id, sentAtMs }) => [id, sentAtMs]))
    for (const line of watched.text.trimEnd().split('\n')) {
      const answer = JSON.parse(line)
      if (answer.result === undefined) refused += 1
      else handedOut += 1
      // The old secrets or what holds since the act, never a mixture.
      const isOld = Object.entries(old).every(([field, value]) => answer.result?.[field] === value)
      if (!isOld || sentAt.get(answer.id)! > boundAtMs) expect(answer).toMatchObject(act.afterwards)
    }
    watched.client.close()
  }
  const { entries } = await story.ok('audit.query', { userId, action: 'api_key_retrieved', limit: 1000 })
  const told = (outcome: string) =>
    entries.filter((entry: { outcome: string }) => entry.outcome === outcome).length
  expect([told('ok'), told('denied')]).toEqual([handedOut, refused])
}

describe.each(stores)('on the $store store', ({ options }) => {
  test.each(['cached', 'opened each time'])('%s', async (how) => {
    const random = randomOf(seed)
    const cache = how === 'cached' ? {} : { cache: { ttl_seconds: 0 } }
    await using story = await Story.begin({ ...options, config: { decrypt: { limit: 100_000 }, ...cache } })
    for (let round = 0; round < rounds; round++) {
      for (const act of bindingActs) {
        const name = `${act.name}-${round}`
        try {
          await race(story, act, name, random)
        } catch (error) {
          throw new Error(`${name}, with PURSER_TEST_SEED=${seed}`, { cause: error })
        }
      }
    }
    await story.chainHolds()
  })
})
