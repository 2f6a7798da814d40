import { afterAll, beforeAll, expect } from 'vitest'
import type { StartPurserOptions, TestPurser } from '../../src/testing/index.ts'
import { apiSecret, startFlow } from '../support/flow.ts'
import { type Answer, RawClient } from '../support/raw-client.ts'

export type WireError = NonNullable<Answer['error']>

/** What a flow finds in the audit log. */
export type Entry = {
  seq: number
  at: string
  action: string
  userId: string | null
  credentialId: number | null
  outcome: 'ok' | 'denied' | 'error'
  details: Record<string, unknown>
  peer: { uid: number; gid: number; pid: number; comm: string | null; unit: string | null } | null
  client: string | null
  hash: string
}

/** One real daemon and connections to it, all gone at the end of the block that holds it. */
export class Story implements AsyncDisposable {
  readonly purser: TestPurser
  readonly #clients: RawClient[] = []
  #main: RawClient | null = null

  private constructor(purser: TestPurser) {
    this.purser = purser
  }

  static async begin(options: StartPurserOptions = {}): Promise<Story> {
    return new Story(await startFlow(options))
  }

  /** A connection of its own. */
  connect(): RawClient {
    const client = new RawClient(this.purser.socketPath)
    this.#clients.push(client)
    return client
  }

  /** The connection that `ok` and `refused` use unless told otherwise. */
  get main(): RawClient {
    if (this.#main === null || this.#main.closed) this.#main = this.connect()
    return this.#main
  }

  /** The result of a call that must succeed. */
  // biome-ignore lint/suspicious/noExplicitAny: results are what tests look into
  async ok(method: string, params?: unknown, client: RawClient = this.main): Promise<any> {
    const answer = await client.call(method, params)
    if (answer.error !== undefined)
      throw new Error(`${method} was refused: ${JSON.stringify(answer.error, null, 1)}`)
    return answer.result
  }

  /** The error of a call that must be refused with `type`. */
  async refused(
    type: string,
    method: string,
    params?: unknown,
    client: RawClient = this.main,
  ): Promise<WireError> {
    const answer = await client.call(method, params)
    expect(answer.result, `${method} should be ${type}`).toBeUndefined()
    expect(answer.error!.data).toMatchObject({ type })
    return answer.error!
  }

  /** Stores a credential with secrets made from `fill`, and answers its id. */
  async store(userId: string, fill: number, more: Record<string, unknown> = {}): Promise<number> {
    const { credentialId } = await this.ok('credentials.store', { ...sample(userId, fill), ...more })
    return credentialId
  }

  /** Audit entries from behind `afterSeq`, oldest first. */
  async entries(afterSeq = 0): Promise<Entry[]> {
    const all: Entry[] = []
    for (let cursor: string | null = null; ; ) {
      const page: { entries: Entry[]; nextCursor: string | null } = await this.ok('audit.query', {
        limit: 1000,
        ...(cursor === null ? {} : { cursor }),
      })
      all.push(...page.entries.filter(({ seq }) => seq > afterSeq))
      cursor = page.nextCursor
      if (cursor === null || page.entries.at(-1)!.seq <= afterSeq) return all.reverse()
    }
  }

  /** The number of the last audit entry. */
  async headSeq(): Promise<number> {
    const { entries } = await this.ok('audit.query', { limit: 1 })
    return entries[0].seq
  }

  /** What `act` leaves in the audit log. */
  async audited(act: () => Promise<unknown>): Promise<Entry[]> {
    const before = await this.headSeq()
    await act()
    return await this.entries(before)
  }

  /** The whole chain holds. */
  async chainHolds(): Promise<void> {
    expect(await this.ok('audit.verify')).toMatchObject({ ok: true, macChecked: true, firstBadSeq: null })
  }

  /** Ends the daemon in order, does `meanwhile`, and starts it again on what it then finds. */
  async restart(meanwhile: () => unknown = () => undefined): Promise<void> {
    this.#closeClients()
    await this.purser.kill('SIGTERM')
    await meanwhile()
    await this.purser.restart()
  }

  #closeClients(): void {
    for (const client of this.#clients.splice(0)) client.close()
    this.#main = null
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closeClients()
    await this.purser.stop()
  }
}

/** Params of `credentials.store`; the API key and the secrets say which `fill` they were made from. */
export function sample(userId: string, fill: number): { userId: string; apiKey: string; apiSecret: string } {
  return { userId, apiKey: `key-${fill}`, apiSecret: apiSecret(fill % 256) }
}

/** The paths that an InvalidParams names. */
export function issuePaths(error: WireError): string[] {
  return error.data.issues.map(({ path }: { path: string }) => path)
}

/** Waits until `holds`, looking every few milliseconds. */
export async function until(holds: () => boolean | Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`it did not come about within ${timeoutMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The seed of a random test: PURSER_TEST_SEED, or a new one, which the caller prints where it fails. */
export function testSeed(): number {
  const given = process.env['PURSER_TEST_SEED']
  return given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given)
}

/** mulberry32: numbers in [0, 1) that a seed repeats. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A daemon for all tests of a file. Each takes users that nobody has had before. */
export function sharedStory(options: StartPurserOptions = {}): {
  next(): { story: Story; alice: string; bob: string; carol: string }
} {
  let story: Story
  let count = 0
  beforeAll(async () => {
    story = await Story.begin(options)
  })
  afterAll(() => story[Symbol.asyncDispose]())
  return {
    next: () => {
      count++
      return { story, alice: `alice-${count}`, bob: `bob-${count}`, carol: `carol-${count}` }
    },
  }
}
