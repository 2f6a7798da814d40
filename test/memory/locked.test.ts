import { execFileSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { sample } from '../flows/story.ts'
import {
  cleanUp,
  keyFile,
  launcher,
  type Purserd,
  type PurserdOptions,
  startReady,
  temporaryDirectory,
} from '../start/purserd.ts'
import { RawClient } from '../support/raw-client.ts'

// Past RLIMIT_MEMLOCK guarded memory is handed out unlocked, and nothing says so but the kernel: purser does.

cleanUp()

/** Starts purserd so that the limit binds it: root has a capability that lifts it, which is dropped. */
async function startLimited(memlockBytes: number | 'unlimited', options: PurserdOptions = {}) {
  const home = temporaryDirectory()
  const socket = join(home, 's')
  const script = join(home, 'limited')
  const drop = process.getuid?.() === 0 ? 'setpriv --bounding-set=-ipc_lock' : ''
  writeFileSync(script, `#!/bin/sh\nexec prlimit --memlock=${memlockBytes} ${drop} ${launcher} "$@"\n`)
  chmodSync(script, 0o700)
  const args = ['--data-dir', join(home, 'd'), '--socket', socket, '--master-key-file', keyFile(home)]
  const env = { PURSER_KDF_MEMORY_KIB: '8', ...options.env }
  const purserd = await startReady(args, home, { ...options, env, command: script })
  return { purserd, client: new RawClient(socket) }
}

const warnings = ({ log }: Purserd) => log.filter(({ level }) => level === 40)

async function health(client: RawClient): Promise<string> {
  return (await client.call('system.health')).result.checks.memory
}

async function memory(client: RawClient): Promise<{ secureBytes: number; unlockedBytes: number }> {
  return (await client.call('system.status')).result.memory
}

const mib = 1024 * 1024

test('no warning where the limit has room for a full cache', async () => {
  const { purserd, client } = await startLimited(8 * mib)
  expect(warnings(purserd)).toEqual([])
  await client.call('credentials.store', sample('alice', 1))
  await client.call('credentials.retrieve', { userId: 'alice' })
  expect(await health(client)).toBe('ok')
  const { secureBytes, unlockedBytes } = await memory(client)
  expect(unlockedBytes).toBe(0)
  // The master key and the opened credential.
  expect(secureBytes).toBeGreaterThanOrEqual(2 * 4096)
  client.close()
})

test.each([
  ['the default cache', 2 * mib, {}, 4_358_144],
  ['a small one', 200 * 1024, { PURSER_CACHE_MAX_ENTRIES: '10' }, 303_104],
  ['none, but keys', 0, { PURSER_CACHE_TTL_SECONDS: '0' }, 262_144],
])('a warning at the start where it has none for %s', async (_, limit, env, needed) => {
  const { purserd, client } = await startLimited(limit, { env })
  expect(warnings(purserd)).toEqual([
    expect.objectContaining({
      msg: expect.stringMatching(/cannot be locked.*swapped.*LimitMEMLOCK=infinity.*cache\.max_entries/),
      memlockLimitBytes: limit,
      neededBytes: needed,
    }),
  ])
  client.close()
})

test('a warning, once, when the limit is used up later; also in health and metrics', async () => {
  const { purserd, client } = await startLimited(8 * mib)
  const limit = 64 * 1024
  execFileSync('prlimit', ['--pid', String(purserd.pid), `--memlock=${limit}`])
  for (let index = 0; index < 40; index++) {
    const userId = `user${index}`
    await client.call('credentials.store', sample(userId, index))
    expect((await client.call('credentials.retrieve', { userId })).error).toBeUndefined()
  }
  expect(warnings(purserd)).toEqual([])
  expect(await health(client)).toMatch(/^\d+ KiB of opened secrets are not locked in memory$/)
  await health(client)
  const { secureBytes, unlockedBytes } = await memory(client)
  expect(secureBytes).toBeGreaterThan(40 * 4096)
  expect(unlockedBytes).toBeGreaterThanOrEqual(secureBytes - limit)
  expect(unlockedBytes).toBeLessThan(secureBytes)
  const { text } = (await client.call('system.metrics')).result
  expect(text).toContain(`\npurser_secure_memory_unlocked_bytes ${unlockedBytes}\n`)
  const warning = {
    msg: expect.stringMatching(/^opened secrets lie in memory that is not locked.*LimitMEMLOCK=infinity/),
    memlockLimitBytes: limit,
  }
  await expect.poll(() => warnings(purserd)).toEqual([expect.objectContaining(warning)])
  client.close()
})

test('without machine code a warning says that not everything is locked', async () => {
  const env = { PURSER_JITLESS: '1' }
  const { purserd, client } = await startLimited(8 * mib, { env })
  expect(warnings(purserd)).toEqual([
    expect.objectContaining({
      msg: expect.stringMatching(/^memory is not locked: what requests and answers hold/),
      reason: expect.stringContaining('needs LimitMEMLOCK=infinity'),
    }),
  ])
  client.close()
})
