import { existsSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { apiSecret } from '../support/flow.ts'
import { RawClient } from '../support/raw-client.ts'
import { cleanUp, keyFile, Purserd, startReady, temporaryDirectory } from './purserd.ts'

cleanUp()

let home: string
let socket: string
let args: string[]

/** What a stop may take, from the contract; the rest of it is this machine's. */
const stopMsMax = 5000

beforeEach(() => {
  home = temporaryDirectory()
  socket = join(home, 's')
  args = ['--data-dir', join(home, 'd'), '--socket', socket, '--master-key-file', keyFile(home)]
})

const store = (n: number) => ({ userId: `user-${n}`, apiKey: 'k', apiSecret: apiSecret(n) })

describe('SIGTERM and SIGINT drain and exit 0', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('%s, with idle connections open', async (signal) => {
    const purserd = await startReady(args, home)
    const client = new RawClient(socket)
    // One that was not accepted yet when the listener closed is reset by the kernel, which is no error here.
    const idle = Array.from({ length: 20 }, () => net.connect(socket).on('error', () => undefined))
    expect((await client.call('system.ping')).result).toBeDefined()
    client.close()
    const startedMs = performance.now()
    expect(await purserd.stop(signal)).toMatchObject({ code: 0, signal: null, stderr: '' })
    expect(performance.now() - startedMs).toBeLessThan(stopMsMax)
    await expect.poll(() => idle.every(({ destroyed }) => destroyed)).toBe(true)
    expect(existsSync(socket)).toBe(false)
    expect(purserd.log.at(-1)?.msg).toBe('audit head')
  })

  test('the moment it says that it is ready', async () => {
    const purserd = new Purserd(args, home)
    await new Promise<void>((ready) => {
      purserd.child.stdout!.on('data', () => {
        if (purserd.stdout.includes('"ready"')) ready()
      })
    })
    // Once: a second signal that meets the end of the process itself finds nobody to handle it.
    purserd.child.kill('SIGTERM')
    expect(await purserd.ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  })

  test('requests under way are answered, new ones get Overloaded, more signals change nothing', async () => {
    // 128 MiB a derivation: slow enough that the signal comes while they run.
    const purserd = await startReady(args, home, { env: { PURSER_KDF_MEMORY_KIB: '131072' } })
    const client = new RawClient(socket)
    const other = new RawClient(socket)
    const waiting = [1, 2, 3].map((n) => client.call('credentials.store', store(n), n))
    // A ping behind them on the same connection says that they were taken.
    await client.call('system.ping')
    const ended = purserd.stop('SIGTERM')
    purserd.child.kill('SIGTERM')
    await new Promise((wait) => setTimeout(wait, 50))
    purserd.child.kill('SIGINT')
    const late = await client.call('system.ping').catch(() => null)
    if (late !== null) expect(late.error?.data).toMatchObject({ type: 'Overloaded', retryable: true })
    expect(late).not.toBeNull()
    const answers = await Promise.all(waiting)
    expect(answers.map(({ error }) => error)).toEqual([undefined, undefined, undefined])
    await other.ended()
    expect(await ended).toMatchObject({ code: 0, signal: null, stderr: '' })

    // What was answered is there, and the stop is in the audit log with its reason.
    const again = await startReady(args, home)
    const reader = new RawClient(socket)
    expect((await reader.call('users.list')).result.users).toHaveLength(3)
    const { entries } = (await reader.call('audit.query', { action: 'daemon_*' })).result
    expect(entries.map(({ action }: { action: string }) => action)).toEqual([
      'daemon_started',
      'daemon_stopped',
      'daemon_started',
    ])
    expect(entries[1].details).toMatchObject({ reason: 'SIGTERM' })
    reader.close()
    await again.stop()
  })

  test('a client that does not take its answers is cut in time', async () => {
    const purserd = await startReady(args, home)
    const deaf = new RawClient(socket)
    const line = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'rpc.discover' })
    await deaf.call('system.ping')
    deaf.socket.pause()
    for (let sent = 0; sent < 200; sent++) deaf.send(`${line}\n`)
    await new Promise((wait) => setTimeout(wait, 300))
    const startedMs = performance.now()
    expect(await purserd.stop()).toMatchObject({ code: 0, signal: null })
    expect(performance.now() - startedMs).toBeLessThan(stopMsMax)
    deaf.close()
  })
})

describe('without its output', () => {
  test.each(['stdout', 'stderr'] as const)(
    '%s closed by its reader, it goes on and stops with 0',
    async (name) => {
      const purserd = await startReady([...args, '--log-level', 'trace'], home)
      purserd.child[name]!.destroy()
      const client = new RawClient(socket)
      expect((await client.call('credentials.store', store(1))).error).toBeUndefined()
      expect((await client.call('credentials.retrieve', { userId: 'user-1' })).result).toBeDefined()
      client.close()
      expect(await purserd.stop()).toMatchObject({ code: 0, signal: null })
    },
  )

  test('started with none at all, as some supervisors do', async () => {
    const shell = ['-c', 'exec "$@" <&- >&- 2>&-', 'sh', join(import.meta.dirname, '../../bin/purserd')]
    const purserd = new Purserd([...shell, ...args], home, { command: '/bin/sh' })
    await expect.poll(() => existsSync(socket), { timeout: 10_000 }).toBe(true)
    const client = new RawClient(socket)
    expect((await client.call('credentials.store', store(1))).error).toBeUndefined()
    client.close()
    expect(await purserd.stop()).toMatchObject({ code: 0, signal: null })
  })
})
