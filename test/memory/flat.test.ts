import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Story } from '../flows/story.ts'

/** As many connections as the bench has, each with so many requests on their way. */
const connections = 64
const pipelined = 8
const requests = 40_000

function residentMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) / 1024
}

/** Sends `count` warm retrieves over one connection, a few at a time, and reads no more of the answers than their ends. */
function retrieve(story: Story, userId: string, count: number): Promise<void> {
  const client = story.connect()
  const line = `${JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'credentials.retrieve', params: { userId } })}\n`
  client.socket.removeAllListeners('data')
  client.send(line.repeat(pipelined))
  return new Promise((resolve) => {
    let answered = 0
    client.socket.on('data', (text: string) => {
      let ends = 0
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) ends++
      answered += ends
      if (answered >= count) {
        client.close()
        resolve()
      } else client.send(line.repeat(ends))
    })
  })
}

test('40,000 retrieves over 64 connections take the memory of a few thousand', {
  timeout: 60_000,
}, async () => {
  await using story = await Story.begin()
  const { pid } = story.purser
  for (let index = 0; index < connections; index++) {
    await story.store(`user${index}`, index)
    await story.ok('credentials.retrieve', { userId: `user${index}` })
  }
  const before = residentMib(pid)
  const each = requests / connections
  await Promise.all(Array.from({ length: connections }, (_, index) => retrieve(story, `user${index}`, each)))
  const after = residentMib(pid)
  console.log(JSON.stringify({ before: Math.round(before), after: Math.round(after) }))
  // 25 as bin/purserd starts Node; 49 where V8 may make objects old at once, 68 with its own young generation too.
  expect(after - before).toBeLessThan(42)
})
