import { expect, test } from 'vitest'
import { until } from '../flows/story.ts'
import { apiSecret } from '../support/flow.ts'
import { Watch, waitMsMax } from './watch-memory.ts'
import { lines, request } from './wire.ts'

// Lines may take 25 times their bytes once they are parsed: however many of them come, memory is bounded.

const lineMax = 65_536

const watch = new Watch()

const heavy: [name: string, line: string][] = [
  [
    'thousands of secrets',
    `{"jsonrpc":"2.0","id":1,"method":"system.ping","params":{${'"token":"\\u0041",'.repeat(3400)}"a":1}}\n`,
  ],
  [
    'thousands of arrays',
    `{"jsonrpc":"2.0","id":1,"method":"system.ping","params":{"a":[${'[],'.repeat(21_000)}1]}}\n`,
  ],
  [
    'thousands of members',
    `{"jsonrpc":"2.0","id":1,"method":"system.ping","params":{${Array.from({ length: 5000 }, (_, n) => `"k${n}":{}`).join(',')}}}\n`,
  ],
]

test.each(heavy)('%s, behind answers that nobody takes', async (_, line) => {
  expect(line.length).toBeLessThanOrEqual(lineMax)
  const { grownMib, waitedMs } = await watch.during(async () => {
    for (const client of watch.connectDeaf(8)) client.send(lines(request(1, 'rpc.discover')).repeat(40))
    await new Promise((resolve) => setTimeout(resolve, 200))
    await Promise.all(watch.deaf.map((client) => client.flood(line, 250 * line.length)))
  })
  expect(grownMib).toBeLessThan(60)
  expect(waitedMs).toBeLessThan(waitMsMax)
})

test.each(heavy.slice(0, 2))('%s, from many at once', async (_, line) => {
  const clients = watch.connect(100)
  const each = 8
  const { grownMib } = await watch.during(async () => {
    for (const client of clients) client.send(line.repeat(each))
    await until(() => clients.every(({ answers }) => answers.length === each), 25_000)
  })
  for (const { answers } of clients)
    for (const answer of answers.flat()) expect(answer.error!.code).toBe(-32602)
  // 46 MB of lines; parsed all at once they would be more than a gigabyte. What the collector leaves lying is some 300 MiB.
  expect(grownMib).toBeLessThan(500)
})

test('in flight together with something slow: beyond the bound of the whole daemon they are Overloaded', async () => {
  const junk = `[${'[],'.repeat(20_000)}1]`
  const slow = (n: number) =>
    JSON.stringify(
      request(n, 'credentials.store', { userId: `slow-${n}`, apiKey: 'k', apiSecret: apiSecret(1) }),
    )
  const clients = watch.connect(40)
  const { grownMib, waitedMs } = await watch.during(async () => {
    clients.forEach((client, n) => {
      for (let at = 0; at < 4; at++) client.send(`[${slow(4 * n + at)},${junk}]\n`)
    })
    // 40 connections of 4 lines of 60 KB each; 8 MiB may be in flight.
    await until(() =>
      clients.flatMap(({ answers }) => answers.flat()).some(({ error }) => error?.code === 1003),
    )
    // Short lines, such as the pings of the good client, go on being served.
    await new Promise((resolve) => setTimeout(resolve, 200))
  })
  expect(grownMib).toBeLessThan(400)
  expect(waitedMs).toBeLessThan(waitMsMax)
  await until(async () => (await watch.story.ok('system.status')).connections.inFlight === 1, 20_000)
})
