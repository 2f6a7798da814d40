import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { randomOf, Story, testSeed } from '../flows/story.ts'
import { stores } from '../races/stores.ts'
import type { RawClient } from '../support/raw-client.ts'

// kill -9 in the midst of writes of many clients, again and again on one store: at a moment that a seed chooses, or in
// the very moment in which an acknowledgement arrives.
// Whatever was acknowledged is there, what was not is there as a whole or not at all, every secret that left has its
// entry, and the chain holds. PURSER_TEST_CRASH_ROUNDS makes it longer.

const seed = testSeed()
const rounds = Number(process.env['PURSER_TEST_CRASH_ROUNDS'] ?? 12)
const writersMax = 6
/** A round begins with checks; then it is killed within this. */
const killWithinMs = 150
/** Of the store that awaits: longer than in the flows, so that a kill falls between two steps more often. */
const delayMs = '6'

type Listed = { credentialId: number; name: string | null; status: string; isPrimary: boolean }
type Credential = { name: string | null; apiKey: string; passphrase: string; revoked: boolean }
/** What a writer knows to be so: all of its own user. */
type Known = { email: string | null; primary: number | null; credentials: Map<number, Credential> }
type Act = { method: string; params: Record<string, unknown> }

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-crash-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** Writes as one user, one act after the other, and remembers what was acknowledged and what was under way. */
class Writer {
  readonly userId: string
  known: Known = { email: null, primary: null, credentials: new Map() }
  pending: Act | null = null
  acknowledged = 0
  readonly #random: () => number
  #unique = 0

  constructor(userId: string, random: () => number) {
    this.userId = userId
    this.#random = random
  }

  async write(client: RawClient, acknowledged: () => void): Promise<void> {
    for (;;) {
      const act = this.#choose()
      this.pending = act
      const { result, error } = await client.call(act.method, act.params)
      if (error !== undefined) throw new Error(`${act.method} was refused: ${JSON.stringify(error)}`)
      this.known = applied(this.known, act, result.credentialId)
      this.pending = null
      this.acknowledged += 1
      acknowledged()
    }
  }

  #choose(): Act {
    const { userId } = this
    this.#unique += 1
    const unique = `${userId}-${this.#unique}`
    const ids = [...this.known.credentials.keys()]
    const credentialId = ids[Math.floor(this.#random() * ids.length)]
    const secrets = { apiKey: unique, apiSecret: 'AAAA' }
    const roll = this.#random()
    if (credentialId === undefined || roll < 0.2)
      return { method: 'credentials.store', params: { userId, ...secrets, passphrase: unique } }
    if (roll < 0.35) return { method: 'users.put', params: { userId, email: unique } }
    const one = { userId, credentialId }
    if (roll < 0.5) return { method: 'credentials.update', params: { ...one, name: unique } }
    if (roll < 0.6 && !this.known.credentials.get(credentialId)!.revoked)
      return { method: 'credentials.update', params: { ...one, isPrimary: true, name: unique } }
    if (roll < 0.75) return { method: 'credentials.replace', params: { ...one, ...secrets } }
    if (roll < 0.9) return { method: 'credentials.rotate', params: { userId } }
    return { method: 'credentials.revoke', params: one }
  }
}

/** What is known after an act was acknowledged. */
function applied(known: Known, { method, params }: Act, storedId: number | undefined): Known {
  const credentials = new Map([...known.credentials].map(([id, one]) => [id, { ...one }]))
  const after = { ...known, credentials }
  if (method === 'users.put') return { ...after, email: params['email'] as string }
  if (method === 'credentials.store') {
    const [apiKey, passphrase] = [params['apiKey'] as string, params['passphrase'] as string]
    credentials.set(storedId!, { name: null, apiKey, passphrase, revoked: false })
    return { ...after, primary: known.primary ?? storedId! }
  }
  const id = params['credentialId'] as number
  const one = credentials.get(id)
  if (one === undefined) return after
  if (method === 'credentials.revoke') one.revoked = true
  if (method === 'credentials.replace') one.apiKey = params['apiKey'] as string
  if (params['name'] !== undefined) one.name = params['name'] as string
  return params['isPrimary'] === true ? { ...after, primary: id } : after
}

/** What the store says of a user. Revoked secrets cannot be had: they are taken from what was known. */
async function stored(story: Story, userId: string, known: Known): Promise<Known> {
  const user = await story.main.call('users.get', { userId })
  if (user.error !== undefined) return { email: null, primary: null, credentials: new Map() }
  const { credentials } = await story.ok('credentials.list', { userId, limit: 1000 })
  let primary: number | null = null
  const rows = await Promise.all(
    (credentials as Listed[]).map(
      async ({ credentialId, name, status, isPrimary }): Promise<[number, Credential]> => {
        if (isPrimary) primary = credentialId
        const revoked = status === 'revoked'
        const before = known.credentials.get(credentialId)
        const { apiKey, passphrase } = revoked
          ? (before ?? { apiKey: '', passphrase: '' })
          : await story.ok('credentials.retrieve', { userId, credentialId })
        return [credentialId, { name, apiKey, passphrase, revoked }]
      },
    ),
  )
  const found = new Map(rows)
  return { email: user.result.email, primary, credentials: found }
}

/** What is stored is what was acknowledged, or that and the act that was under way, as a whole. */
async function expectKept(story: Story, writer: Writer): Promise<void> {
  const { known, pending, userId } = writer
  const found = await stored(story, userId, known)
  const newId = [...found.credentials.keys()].find((id) => !known.credentials.has(id))
  const possible = [known]
  if (pending !== null && (pending.method !== 'credentials.store' || newId !== undefined))
    possible.push(applied(known, pending, newId))
  // A replaced one that was then revoked shows no secrets: either is as known.
  expect(possible.map(plain)).toContainEqual(plain(found))
  writer.known = found
  writer.pending = null
}

const plain = ({ credentials, ...rest }: Known) => ({
  ...rest,
  credentials: [...credentials].map(([id, { apiKey, passphrase, ...one }]) =>
    one.revoked ? { id, ...one } : { id, ...one, apiKey, passphrase },
  ),
})

/** Retrieves as fast as it can; answers how many secrets it was handed. */
async function read(client: RawClient, writers: readonly Writer[]): Promise<number> {
  let handed = 0
  try {
    await client.call('session.hello', { client: 'reader' })
    for (let n = 0; ; n++) {
      const { userId } = writers[n % writers.length]!
      const { result } = await client.call('credentials.retrieve', { userId })
      if (result !== undefined) handed += 1
    }
  } catch {
    return handed
  }
}

test(`${rounds} rounds (PURSER_TEST_SEED=${seed})`, { timeout: 30_000 + rounds * 5000 }, async () => {
  const random = randomOf(seed)
  const writers = Array.from({ length: writersMax }, (_, index) => new Writer(`user-${index}`, random))
  let handed = 0
  let seq = 0
  for (let round = 0; round <= rounds; round++) {
    await using story = await Story.begin({
      ...stores[round % stores.length]!.options,
      dataDirectory: directory,
      masterKey: Buffer.alloc(32, 7),
      config: { decrypt: { limit: 100_000 } },
      env: { PURSER_TEST_DELAY_MS: delayMs },
    })
    try {
      const entries = await story.entries()
      expect(entries.length).toBeGreaterThan(seq)
      seq = entries.length
      const told = entries.filter(({ client, outcome }) => client === 'reader' && outcome === 'ok')
      expect(told.length).toBeGreaterThanOrEqual(handed)
      handed = told.length
      await Promise.all(writers.map((writer) => expectKept(story, writer)))
      await story.chainHolds()
      if (round === rounds) break
      const atAcknowledgement = round % 3 === 0 ? null : 1 + Math.floor(random() * 40)
      let acknowledgements = 0
      const onAcknowledged = () => {
        acknowledgements += 1
        if (acknowledgements === atAcknowledgement) process.kill(story.purser.pid, 'SIGKILL')
      }
      const running = writers.map((writer) =>
        writer.write(story.connect(), onAcknowledged).catch((error: Error) => error.message),
      )
      const reading = read(story.connect(), writers)
      if (atAcknowledgement === null) {
        await new Promise((resolve) => setTimeout(resolve, random() * killWithinMs))
        await story.purser.kill('SIGKILL')
      }
      for (const ended of await Promise.all(running))
        expect(ended).toBe('the connection ended without that answer')
      handed += await reading
    } catch (error) {
      throw new Error(`round ${round}, with PURSER_TEST_SEED=${seed}`, { cause: error })
    }
  }
  expect(writers.reduce((sum, { acknowledged }) => sum + acknowledged, 0)).toBeGreaterThan(rounds * 5)
})
