import net from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { Story, until } from '../flows/story.ts'
import { DeafClient, lines, request } from './wire.ts'

/** Section 1 of the contract. */
const connectionsMax = 1000

describe('clients that do nothing useful do not stop a good one', () => {
  let story: Story
  const bad: { close(): void }[] = []
  beforeAll(async () => {
    story = await Story.begin()
    await story.store('alice', 1)
  })
  afterEach(() => {
    for (const one of bad.splice(0)) one.close()
  })
  afterAll(() => story[Symbol.asyncDispose]())

  /** Several calls by a newcomer, each in a time that tells of no trouble. */
  async function isServed(client = story.connect()): Promise<void> {
    for (let n = 0; n < 5; n++) {
      const askedAt = performance.now()
      await story.ok('credentials.retrieve', { userId: 'alice' }, client)
      expect(performance.now() - askedAt).toBeLessThan(1500)
    }
    client.close()
  }

  test.each<[name: string, sends: string]>([
    ['send nothing', ''],
    ['send half a line', '{"jsonrpc":"2.0","id":1,"method":"system.p'],
    ['send blank lines', '\n \n'],
    ['send what is no JSON', 'x\n'.repeat(100)],
    ['never read', lines(request(1, 'rpc.discover')).repeat(15)],
  ])('1,200 that %s', async (_, sends) => {
    for (let n = 0; n < 1200; n++) {
      const client = new DeafClient(story.purser.socketPath)
      bad.push(client)
      if (sends !== '') client.send(sends)
      if (n % 200 === 199) await isServed()
    }
    await isServed()
    expect((await story.ok('system.status')).connections.connections).toBeLessThanOrEqual(connectionsMax)
  })

  test('some that write as fast as they can', async () => {
    const chunks = [
      '\n'.repeat(60_000),
      ' \n'.repeat(30_000),
      'x\n'.repeat(10_000),
      lines(request(undefined, 'system.ping')).repeat(1000),
    ]
    for (const chunk of chunks) {
      const socket = net
        .connect(story.purser.socketPath)
        .resume()
        .on('error', () => undefined)
      bad.push({ close: () => socket.destroy() })
      const pump = () => {
        while (!socket.destroyed && socket.write(chunk));
      }
      socket.on('drain', pump)
      pump()
    }
    for (let n = 0; n < 20; n++) await isServed()
  })

  test('connections that come and go as fast as they can', async () => {
    const [one, other] = [story.connect(), story.connect()]
    await story.ok('system.ping', {}, one)
    await story.ok('system.ping', {}, other)
    const endsAt = performance.now() + 1000
    let count = 0
    const comeAndGo = async (): Promise<void> => {
      while (performance.now() < endsAt) {
        await new Promise<void>((resolve) => {
          const socket = net.connect(story.purser.socketPath, () => socket.destroy())
          socket.on('error', () => undefined).on('close', () => resolve())
        })
        count++
      }
    }
    await Promise.all([comeAndGo(), comeAndGo(), comeAndGo(), isServed(one), isServed(other)])
    expect(count).toBeGreaterThan(100)
    // Where more have come than wait in the kernel's queue, a connect fails until those that have gone are out of it.
    await until(() =>
      isServed().then(
        () => true,
        () => false,
      ),
    )
  })
})
