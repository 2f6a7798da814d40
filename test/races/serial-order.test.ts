import { describe, expect, test } from 'vitest'
import { type Entry, randomOf, Story, testSeed } from '../flows/story.ts'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import type { Answer, RawClient } from '../support/raw-client.ts'
import { stores } from './stores.ts'

// Many clients store, retrieve, replace, update, rotate and revoke at once. The audit log is the order in which it
// happened: carried out one by one in that order, a plain model gives every answer that was given.

const seed = testSeed()
const clientsMax = 12
const actsPerClient = 40
const users = ['alice', 'bob']
const [{ privateKey }] = hardhatKeys

type Params = { userId: string; credentialId?: number; [more: string]: unknown }
type Done = { method: string; params: Params; answer: Answer }
type Credential = {
  userId: string
  apiKey: string
  passphrase: string
  revoked: boolean
  expired: boolean
  signOnly: boolean
  isPrimary: boolean
}

function chooseAct(random: () => number, unique: string): { method: string; params: Params } {
  const userId = users[Math.floor(random() * users.length)]!
  const credentialId = 1 + Math.floor(random() * 6)
  const one = { userId, credentialId }
  const secrets = { apiKey: unique, apiSecret: apiSecret(unique.length), privateKey }
  const roll = random()
  if (roll < 0.45) return { method: 'credentials.retrieve', params: random() < 0.5 ? { userId } : one }
  if (roll < 0.55) return { method: 'credentials.store', params: { userId, ...secrets, passphrase: unique } }
  if (roll < 0.65)
    return { method: 'credentials.replace', params: { ...one, ...secrets, passphrase: unique } }
  // Without a passphrase the old one stays, and the old envelope is opened.
  if (roll < 0.75)
    return { method: 'credentials.replace', params: { ...one, apiKey: unique, apiSecret: 'AAAA' } }
  if (roll < 0.82) return { method: 'credentials.rotate', params: one }
  if (roll < 0.87) return { method: 'credentials.update', params: { ...one, isPrimary: true } }
  if (roll < 0.91) return { method: 'credentials.update', params: { ...one, privateKeyPolicy: 'sign-only' } }
  if (roll < 0.96) {
    const expiresAt = random() < 0.5 ? '2020-01-01T00:00:00Z' : null
    return { method: 'credentials.update', params: { ...one, expiresAt } }
  }
  return { method: 'credentials.revoke', params: one }
}

async function act(client: RawClient, index: number, random: () => number): Promise<Done[]> {
  await client.call('session.hello', { client: `c${index}` })
  const done: Done[] = []
  for (let n = 0; n < actsPerClient; n++) {
    const { method, params } = chooseAct(random, `key-${index}-${n}`)
    let answer = await client.call(method, params)
    // Overtaken again and again by others: it is told to come back, did nothing, and leaves no entry.
    while (answer.error?.data.type === 'Overloaded') answer = await client.call(method, params)
    done.push({ method, params, answer })
  }
  return done
}

/** What the contract says of one act after all before it. */
class Model {
  readonly credentials = new Map<number, Credential>()

  /** Checks the answer to an act, and the entry that tells of it. */
  carryOut({ method, params, answer }: Done, entry: Entry): void {
    const what = JSON.stringify({ method, params, answer, entry })
    const expected = this.#expectedError(method, params)
    expect(answer.error?.data.type ?? null, what).toBe(expected)
    expect(entry.outcome, what).toBe(expected === null ? 'ok' : 'denied')
    if (expected === null) this.#apply(method, params, answer, what)
  }

  #find({ userId, credentialId }: Params): Credential | undefined {
    if (credentialId === undefined)
      return [...this.credentials.values()].find((one) => one.userId === userId && one.isPrimary)
    const found = this.credentials.get(credentialId)
    return found?.userId === userId ? found : undefined
  }

  #expectedError(method: string, params: Params): string | null {
    if (method === 'credentials.store') return null
    const found = this.#find(params)
    if (found === undefined) return 'NotFound'
    const needsUsable = method === 'credentials.retrieve' || method === 'credentials.rotate'
    if (found.revoked && (needsUsable || params['isPrimary'] === true)) return 'CredentialRevoked'
    return found.expired && needsUsable ? 'CredentialExpired' : null
  }

  #apply(method: string, params: Params, { result }: Answer, what: string): void {
    if (method === 'credentials.store') {
      const { userId } = params
      const isPrimary = ![...this.credentials.values()].some((one) => one.userId === userId)
      const [apiKey, passphrase] = [params['apiKey'] as string, params['passphrase'] as string]
      const fresh = { revoked: false, expired: false, signOnly: false, isPrimary }
      expect(this.credentials.has(result.credentialId), what).toBe(false)
      this.credentials.set(result.credentialId, { userId, apiKey, passphrase, ...fresh })
      return
    }
    const found = this.#find(params)!
    if (method === 'credentials.revoke') found.revoked = true
    if (method === 'credentials.replace') {
      found.apiKey = params['apiKey'] as string
      found.passphrase = (params['passphrase'] as string | undefined) ?? found.passphrase
    }
    if (params['privateKeyPolicy'] !== undefined) found.signOnly = true
    if (params['expiresAt'] !== undefined) found.expired = params['expiresAt'] !== null
    if (params['isPrimary'] === true) {
      for (const one of this.credentials.values())
        if (one.userId === found.userId) one.isPrimary = one === found
    }
    if (method === 'credentials.retrieve') {
      const { apiKey, passphrase, signOnly } = found
      expect(result, what).toMatchObject({ apiKey, passphrase, privateKey: signOnly ? null : privateKey })
    } else if (method !== 'credentials.rotate') {
      const { isPrimary, signOnly } = found
      expect(result, what).toMatchObject({
        isPrimary,
        privateKeyPolicy: signOnly ? 'sign-only' : 'exportable',
        status: found.revoked ? 'revoked' : found.expired ? 'expired' : 'active',
      })
    }
  }
}

describe.each(stores)('on the $store store', ({ options }) => {
  test.each(['cached', 'opened each time'])('%s', async (how) => {
    const cache = how === 'cached' ? {} : { cache: { ttl_seconds: 0 } }
    await using story = await Story.begin({ ...options, config: { decrypt: { limit: 100_000 }, ...cache } })
    for (const userId of users) await story.ok('users.put', { userId })
    const before = await story.headSeq()
    const all = await Promise.all(
      Array.from({ length: clientsMax }, (_, index) =>
        act(story.connect(), index, randomOf(seed + 1000 * index)),
      ),
    )
    const entries = await story.entries(before)
    expect(entries).toHaveLength(clientsMax * actsPerClient)
    const next = all.map((done) => done[Symbol.iterator]())
    const model = new Model()
    try {
      for (const entry of entries) model.carryOut(next[Number(entry.client!.slice(1))]!.next().value!, entry)
      await expectSameInTheEnd(story, model)
    } catch (error) {
      throw new Error(`with PURSER_TEST_SEED=${seed}`, { cause: error })
    }
    await story.chainHolds()
  })
})

/** The store, after a restart, says what the model says. */
async function expectSameInTheEnd(story: Story, model: Model): Promise<void> {
  await story.restart()
  const { credentials } = await story.ok('credentials.list', { limit: 1000 })
  expect(credentials).toHaveLength(model.credentials.size)
  for (const { credentialId, userId, isPrimary, status } of credentials) {
    const expected = model.credentials.get(credentialId)!
    expect({ userId, isPrimary }).toEqual({ userId: expected.userId, isPrimary: expected.isPrimary })
    if (status !== 'active') continue
    const { apiKey, passphrase } = expected
    const found = await story.ok('credentials.retrieve', { userId, credentialId })
    expect(found).toMatchObject({ apiKey, passphrase })
  }
}
