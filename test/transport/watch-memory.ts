import { afterAll, beforeAll, beforeEach } from 'vitest'
import { Story, until } from '../flows/story.ts'
import type { RawClient } from '../support/raw-client.ts'
import { DeafClient, lines, request, residentMib } from './wire.ts'

/** Other tests run beside this one on few cores; by itself a good client waits for some milliseconds. */
export const waitMsMax = 1500

/** A daemon whose memory is looked at while clients do their worst. */
export class Watch {
  #story: Story | null = null
  /** Clients that do not read; gone at the end of each test. */
  readonly deaf: DeafClient[] = []
  readonly #clients: RawClient[] = []

  /** For the top of a test file: starts the daemon before its tests and ends it after them. */
  constructor() {
    beforeAll(async () => {
      this.#story = await Story.begin({ config: { kdf: { memory_kib: 16_384 } }, fastKdf: false })
      await this.#warmUp()
    })
    afterAll(() => this.#story?.[Symbol.asyncDispose]())
    beforeEach(() => async () => {
      for (const client of [...this.deaf.splice(0), ...this.#clients.splice(0)]) client.close()
      await until(async () => (await this.connections()) <= 2)
    })
  }

  get story(): Story {
    return this.#story!
  }

  /** What the daemon has resident now, in MiB. */
  get resident(): number {
    return residentMib(this.story.purser.pid)
  }

  /** How many connections the daemon has, this one's included. */
  async connections(): Promise<number> {
    return (await this.story.ok('system.status')).connections.connections
  }

  /** Ordinary clients, gone at the end of the test. */
  connect(count: number): RawClient[] {
    for (let n = 0; n < count; n++) this.#clients.push(this.story.connect())
    return this.#clients
  }

  connectDeaf(count: number): DeafClient[] {
    for (let n = 0; n < count; n++) this.deaf.push(new DeafClient(this.story.purser.socketPath))
    return this.deaf
  }

  /**
   * How much more is resident at the highest of several looks while `during` runs, and the longest that a good client
   * waited for an answer meanwhile.
   */
  async during(during: () => Promise<unknown>): Promise<{ grownMib: number; waitedMs: number }> {
    const good = this.story.connect()
    const before = this.resident
    let running = true
    let grownMib = 0
    let waitedMs = 0
    const done = during().finally(() => {
      running = false
    })
    while (running) {
      const askedAt = performance.now()
      await this.story.ok('system.ping', {}, good)
      waitedMs = Math.max(waitedMs, performance.now() - askedAt)
      grownMib = Math.max(grownMib, this.resident - before)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    await done
    good.close()
    return { grownMib, waitedMs }
  }

  /** Code is compiled, and the heap has its size, before anything is measured. */
  async #warmUp(): Promise<void> {
    const { main } = this.story
    for (let round = 0; round < 20; round++) {
      main.send(lines(...Array.from({ length: 100 }, (_, id) => request(id, 'rpc.discover'))))
      await until(() => main.answers.length === 100)
      main.answers.length = 0
    }
  }
}
