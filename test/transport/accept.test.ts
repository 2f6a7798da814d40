import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Role } from '../../src/access/caller.ts'
import type { Dispatcher } from '../../src/rpc/dispatcher.ts'
import { HandOver } from '../../src/rpc/hand-over.ts'
import type { Session } from '../../src/rpc/session.ts'
import { Listener } from '../../src/transport/listener.ts'
import { Story, until } from '../flows/story.ts'

// libuv accepts one connection in a turn of the event loop: whoever does nothing but connect would keep the queue full.

describe('those who wait to be accepted', () => {
  let directory: string
  let path: string
  let listener: Listener
  let crowd: ChildProcess | null = null
  let role: Role = 'none'
  const seen: number[] = []
  const sessions: { role: Role; clientId: number | null }[] = []

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'purser-accept-'))
    path = join(directory, 'run', 'p.sock')
    seen.length = 0
    sessions.length = 0
    listener = new Listener({
      dispatcher: {
        isLarge: () => false,
        dispatch: (asker, line) => asker.finished(line),
      } as Pick<Dispatcher, 'isLarge' | 'dispatch'> as Dispatcher,
      handOver: new HandOver(),
      identify: (peer) => {
        seen.push(peer.pid)
        const clientId = role === 'client' ? 1 : null
        const session = { peer, role, clientId, client: null, closing: false }
        sessions.push(session)
        return session as unknown as Session
      },
      refused: () => undefined,
      afterTurn: () => undefined,
    })
    await listener.listen({ path, mode: 0o600 }, 'main')
  })
  afterEach(async () => {
    crowd?.kill('SIGKILL')
    await listener.drain(100)
    rmSync(directory, { recursive: true, force: true })
  })

  /** Has another process connect `count` times, and go again where it is to, while the event loop stands still. */
  function wait(count: number, goes: boolean): void {
    const code = `const { existsSync, writeFileSync } = require('node:fs')
      let left = ${count}
      for (let n = 0; n < ${count}; n++) {
        const socket = require('node:net').connect(process.argv[1], () => {
          if (${goes}) socket.destroy()
          if (--left === 0) setTimeout(() => writeFileSync(process.argv[2], ''), 50)
        }).on('error', () => undefined)
      }
      setTimeout(() => undefined, 20_000)`
    const done = join(directory, 'done')
    crowd = spawn(process.execPath, ['-e', code, path, done], { stdio: 'inherit' })
    const sleeping = new Int32Array(new SharedArrayBuffer(4))
    for (let tries = 0; !existsSync(done) && tries < 2000; tries++) Atomics.wait(sleeping, 0, 0, 5)
    expect(existsSync(done)).toBe(true)
  }

  test('without a grant get in by and by, with time to present a token; in a flood all are looked at in one turn', async () => {
    role = 'none'
    const count = 700
    wait(count, false)
    const counts: number[] = []
    for (let before = 0; seen.length < count; before = seen.length) {
      await nextTurn()
      if (seen.length > before) counts.push(seen.length - before)
      expect(listener.connections).toBeLessThanOrEqual(64)
    }
    expect(counts.slice(0, 30).every((one) => one <= 16)).toBe(true)
    expect(Math.max(...counts)).toBeGreaterThan(100)
    expect(new Set(seen)).toEqual(new Set([crowd!.pid]))
  })

  test('with one get in by and by, so that those that go again are not in the way of others', async () => {
    role = 'client'
    wait(200, false)
    await nextTurn()
    await nextTurn()
    expect(listener.connections).toBeGreaterThan(1)
    expect(listener.connections).toBeLessThan(200)
    await until(() => listener.connections === 200)
  })

  test('and are nobody any more once their entry is gone, which whoever asks brings to light', async () => {
    role = 'client'
    wait(200, false)
    await until(() => listener.connections === 200)
    for (const session of sessions) Object.assign(session, { role: 'none', clientId: null })
    role = 'admin'
    const admin = net.connect(path)
    admin.write('{"jsonrpc":"2.0","id":1,"method":"system.ping"}\n')
    await until(() => listener.connections === 64 + 1)
    admin.destroy()
  })

  test('and have gone again are nobody', async () => {
    wait(300, true)
    await until(async () => {
      await nextTurn()
      return listener.connections === 0
    })
    expect(seen).toEqual([])
  })
})

test('as many wait as the kernel lets wait, and a daemon that stood still lets an admin in behind them', async () => {
  const somaxconn = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'))
  const backlog = Math.min(4096, somaxconn)
  await using story = await Story.begin()
  const { pid, socketPath } = story.purser
  const waiting: net.Socket[] = []
  process.kill(pid, 'SIGSTOP')
  try {
    // A full queue of them would be more descriptors than a process usually has.
    for (let n = 0; n < backlog + 10; n++) {
      const socket = net.connect(socketPath).on('error', () => undefined)
      waiting.push(socket)
      if (n % 100 === 0) await nextTurn()
      if (n >= 900) waiting[n - 900]!.destroy()
    }
    await until(() => waiting.at(-1)!.destroyed)
    for (const socket of waiting) socket.destroy()
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  expect(waiting.filter(({ bytesRead, errored }) => bytesRead === 0 && errored !== null)).toHaveLength(9)
  await until(() =>
    story.ok('system.ping', {}, story.connect()).then(
      () => true,
      () => false,
    ),
  )
})
