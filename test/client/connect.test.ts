import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { connect } from '../../src/client/index.ts'
import { Peer, rejection } from './peer.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-connect-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

describe('connect', () => {
  test('a missing socket: which path was tried, and what to do', async () => {
    const socketPath = join(directory, 'missing.sock')
    expect(await rejection(connect({ socketPath }))).toMatchObject({
      name: 'ConnectError',
      code: 'ENOENT',
      socketPath,
      message: expect.stringContaining(socketPath),
      hint: expect.stringContaining('is purserd running?'),
    })
  })

  test('a socket left behind', async () => {
    const socketPath = join(directory, 'stale.sock')
    writeFileSync(socketPath, '')
    expect(await rejection(connect({ socketPath }))).toMatchObject({
      name: 'ConnectError',
      code: 'ECONNREFUSED',
      hint: expect.stringContaining('is purserd running?'),
    })
  })

  test('a path too long for a socket', async () => {
    const socketPath = join(directory, 'x'.repeat(120))
    expect(await rejection(connect({ socketPath }))).toMatchObject({
      name: 'ConnectError',
      code: 'ENAMETOOLONG',
    })
  })

  test('a daemon that accepts nobody fails the attempt, in time', async () => {
    const socketPath = join(directory, 'busy.sock')
    const script = `require('node:net').createServer().listen({ path: process.argv[1], backlog: 1 }, () => {
      console.log('listening')
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    })`
    const child = spawn(process.execPath, ['-e', script, socketPath], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      await once(child.stdout, 'data')
      const attempts = Array.from({ length: 4 }, () =>
        rejection(connect({ socketPath, client: 'bot', timeoutMs: 100 })),
      )
      const errors = (await Promise.all(attempts)) as { name: string; code?: string }[]
      for (const error of errors) expect(['CallTimeoutError', 'ConnectError']).toContain(error.name)
      expect(errors.some((error) => error.code === 'EAGAIN')).toBe(true)
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  })

  test('a queue that is full for a while, as in a flood of connects, is waited for', async () => {
    const socketPath = join(directory, 'flooded.sock')
    const script = `const server = require('node:net').createServer((socket) => socket.on('error', () => {}).resume())
    server.listen({ path: process.argv[1], backlog: 1 }, () => {
      console.log('listening')
      setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 700), 50)
    })`
    const child = spawn(process.execPath, ['-e', script, socketPath], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      await once(child.stdout, 'data')
      await new Promise((resolve) => setTimeout(resolve, 200))
      const clients = await Promise.all(Array.from({ length: 8 }, () => connect({ socketPath })))
      for (const client of clients) await client.close()
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  })

  test.each([
    { timeoutMs: 0 },
    { timeoutMs: Number.NaN },
    { timeoutMs: 2 ** 31 },
    { maxInFlight: 0 },
    { maxInFlight: 257 },
    { maxWaiting: -1 },
    { maxAnswerBytes: 2 ** 40 },
  ])('refuses %j', async (options) => {
    expect(await rejection(connect(options))).toBeInstanceOf(TypeError)
  })

  test('waits without end where that is asked for', async () => {
    await using peer = await Peer.start()
    await using client = await connect({ socketPath: peer.socketPath, timeoutMs: Infinity })
    peer.onRequest = (_request, reply) => setTimeout(() => reply.result('late'), 50)
    expect(await client.call('echo')).toBe('late')
  })

  test('a socket that may not be used tells of the group', async () => {
    await using peer = await Peer.start()
    chmodSync(peer.directory, 0o711)
    chmodSync(peer.socketPath, 0o600)
    const error = await rejectionAsNobody(peer.socketPath)
    expect(error).toMatchObject({ name: 'ConnectError', code: 'EACCES' })
    expect(error.hint).toMatch(/group with gid \d+/)
    chmodSync(peer.directory, 0o700)
    const barred = await rejectionAsNobody(peer.socketPath)
    expect(barred).toMatchObject({ name: 'ConnectError', code: 'EACCES' })
    expect(barred.hint).toMatch(/group with gid \d+/)
  })
})

/** Connects under another uid where this process may switch, else under its own with the bits taken away. */
async function rejectionAsNobody(socketPath: string): Promise<{ name: string; code: string; hint: string }> {
  if (process.getuid?.() !== 0) {
    chmodSync(socketPath, 0)
    return (await rejection(connect({ socketPath }))) as { name: string; code: string; hint: string }
  }
  const nobody = 65_534
  process.setegid?.(nobody)
  process.seteuid?.(nobody)
  try {
    return (await rejection(connect({ socketPath }))) as { name: string; code: string; hint: string }
  } finally {
    process.seteuid?.(0)
    process.setegid?.(0)
  }
}
