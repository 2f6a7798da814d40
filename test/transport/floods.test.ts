import { chmodSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Story } from '../flows/story.ts'
import { RawClient } from '../support/raw-client.ts'
import { type Flood, startFlood, UserNamespace, whyNoFlood } from '../support/user-namespace.ts'
import { lines, request } from './wire.ts'

// Flooding from uids without a grant, also 65,536 of them from one user namespace, neither fills the disk nor locks
// admins out (design, "Overload").

const uids = 65_536
/** Written one by one in a minute, and the minute may turn meanwhile. */
const refusalsMax = 2 * 600
const strangersMax = 64
const skipped = whyNoFlood()
if (skipped !== null) console.warn(`skipped: ${skipped}`)

/** Long beside what a freeze takes, short beside a lock-out. */
const frozenWithinMs = 5000

let story: Story
let flood: Flood | null = null
let namespace: UserNamespace

beforeEach(async () => {
  if (skipped !== null) return
  story = await Story.begin({ config: { socket: { mode: '0666' } } })
  // As where bots of other uids reach the socket.
  chmodSync(dirname(story.purser.socketPath), 0o711)
  namespace = await UserNamespace.make(`0 1000000 ${uids}`)
})
afterEach(async () => {
  flood?.child.kill('SIGKILL')
  flood = null
  namespace?.[Symbol.dispose]()
  await story?.[Symbol.asyncDispose]()
})

/** An admin who comes as the CLI does: a new connection, and again where the kernel has no place for it in its queue. */
async function asNewcomer(method: string, params: unknown): Promise<void> {
  for (;;) {
    const client = new RawClient(story.purser.socketPath)
    try {
      expect((await client.call(method, params)).error).toBeUndefined()
      return
    } catch (error) {
      if (!String(error).includes('the connection ended')) throw error
      await new Promise((resolve) => setTimeout(resolve, 1))
    } finally {
      client.close()
    }
  }
}

describe.skipIf(skipped !== null)('65,536 uids of one user namespace that ask for what they may not', () => {
  test.each([
    ['once each', 1],
    ['fifty times each', 50],
  ])('%s: an admin freezes, unfreezes and is told, and the audit log is bounded', async (_, times) => {
    const resident = story.connect()
    await story.ok('system.ping', {}, resident)
    const before = await story.headSeq()
    const text = lines(...Array.from({ length: times }, (_, id) => request(id, 'users.get', { userId: 'a' })))
    const count = Math.ceil(uids / times)
    flood = startFlood(namespace, story.purser.socketPath, { first: 0, count, text })
    let over = false
    const ended = flood.ended.finally(() => {
      over = true
    })
    let acts = 0
    const most = { ms: 0, connections: 0 }
    while (!over) {
      const askedAt = performance.now()
      await asNewcomer('system.freeze', { reason: 'flood' })
      await story.ok('system.unfreeze', {}, resident)
      most.ms = Math.max(most.ms, performance.now() - askedAt)
      const { connections } = (await story.ok('system.status', {}, resident)).connections
      most.connections = Math.max(most.connections, connections)
      acts += 2
    }
    const { connected, failed } = await ended
    expect(connected + failed).toBe(count)
    expect(connected).toBeGreaterThan(count / 2)
    expect(acts).toBeGreaterThan(0)
    expect(most.ms).toBeLessThan(frozenWithinMs)
    // Beside them the resident, `main` of the story and a newcomer.
    expect(most.connections).toBeLessThanOrEqual(strangersMax + 3)
    // All other entries are the admin's own.
    const written = (await story.headSeq()) - before - acts
    expect(written).toBeGreaterThan(0)
    expect(written).toBeLessThanOrEqual(refusalsMax + 2)
    const told = (await story.entries(before)).filter(({ action }) => action === 'access_denied')
    expect(new Set(told.map(({ peer }) => peer?.uid)).size).toBeGreaterThan(100 / times)
    await story.chainHolds()
  })

  test('a stop in the midst of them ends in order, and in time', async () => {
    const text = lines(request(1, 'users.get', { userId: 'a' }))
    flood = startFlood(namespace, story.purser.socketPath, { first: 0, count: uids, text })
    const resident = story.connect()
    while ((await story.ok('system.status', {}, resident)).connections.connections < strangersMax / 2)
      await new Promise((resolve) => setTimeout(resolve, 5))
    const stoppedAt = performance.now()
    expect(await story.purser.kill('SIGTERM')).toMatchObject({ code: 0 })
    expect(performance.now() - stoppedAt).toBeLessThan(2 * frozenWithinMs)
    flood.child.kill('SIGKILL')
    await story.purser.restart()
    await story.chainHolds()
  })
})
