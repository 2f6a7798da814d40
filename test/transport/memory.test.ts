import { describe, expect, test } from 'vitest'
import { Watch, waitMsMax } from './watch-memory.ts'
import { lines, request } from './wire.ts'

// Whatever clients leave unread or half sent, the daemon's memory is bounded, and a good client is served meanwhile.

/** What is taken of a client until some 450 KiB of answers wait for it, and the buffers on the way in are full. */
const heldBytesMax = 2 * 1024 * 1024

const watch = new Watch()

/** What `look` answers once it has answered the same for a second. */
async function settled(look: () => Promise<number>): Promise<number> {
  let seen = await look()
  for (let since = performance.now(); performance.now() - since < 1000; ) {
    await new Promise((resolve) => setTimeout(resolve, 50))
    const now = await look()
    if (now !== seen) since = performance.now()
    seen = now
  }
  return seen
}

describe('clients that never read', () => {
  test.each<[name: string, chunk: string]>([
    ['lines that are no JSON', 'x\n'.repeat(5000)],
    ['what is no request', 'null\n'.repeat(5000)],
    ['pings', lines(request(1, 'system.ping')).repeat(500)],
    ['long answers', lines(request(1, 'rpc.discover')).repeat(500)],
    ['long ids', lines(request('i'.repeat(60_000), 'system.ping')).repeat(4)],
    ['batches', lines(Array.from({ length: 100 }, () => request(1, 'rpc.discover'))).repeat(5)],
    [
      'errors with long lists',
      lines(
        request(
          1,
          'system.ping',
          Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`${n}${'m'.repeat(200)}`, 1])),
        ),
      ).repeat(50),
    ],
  ])('%s: purser stops taking more', async (_, chunk) => {
    const { grownMib, waitedMs } = await watch.during(() =>
      Promise.all(watch.connectDeaf(4).map((client) => client.flood(chunk, 8 * 1024 * 1024))),
    )
    for (const client of watch.deaf) expect(client.taken).toBeLessThan(heldBytesMax)
    expect(grownMib).toBeLessThan(60)
    expect(waitedMs).toBeLessThan(waitMsMax)
  })

  test('many of them are cut before they fill the memory, those stuck longest first', async () => {
    const count = 350
    // Each has some 300 KiB waiting; together that would be 100 MiB.
    const { grownMib, waitedMs } = await watch.during(async () => {
      for (const client of watch.connectDeaf(count)) client.send(lines(request(1, 'rpc.discover')).repeat(20))
      await settled(() => watch.connections())
    })
    expect(grownMib).toBeLessThan(200)
    expect(waitedMs).toBeLessThan(waitMsMax)
    // Those who were cut hear of it once they read; the others get all that they asked for.
    for (const { socket } of watch.deaf) socket.resume()
    const cut = await settled(async () => watch.deaf.filter(({ closed }) => closed).length)
    expect(cut).toBeGreaterThan(50)
    expect(cut).toBeLessThan(count - 50)
    const place = (wanted: boolean) => {
      const places = watch.deaf.flatMap(({ closed }, n) => (closed === wanted ? [n] : []))
      return places.reduce((sum, n) => sum + n, 0) / places.length
    }
    expect(place(true)).toBeLessThan(place(false))
  })
})

test('half lines of many connections take what they are long, and are answered once they are whole', async () => {
  const clients = watch.connect(200)
  const start = `{"jsonrpc":"2.0","id":"${'x'.repeat(60_000)}`
  const { grownMib, waitedMs } = await watch.during(async () => {
    for (const client of clients) {
      client.send(start.slice(0, 30_000))
      client.send(start.slice(30_000))
    }
    await new Promise((resolve) => setTimeout(resolve, 500))
  })
  // 12 MB as they come, 13 in buffers.
  expect(grownMib).toBeLessThan(60)
  expect(waitedMs).toBeLessThan(waitMsMax)
  for (const client of clients) client.send('","method":"system.ping"}\n')
  for (const client of clients) expect(await client.answer()).toMatchObject({ result: { pong: true } })
})
