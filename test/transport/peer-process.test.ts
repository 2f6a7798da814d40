import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { peerPidfd } from '../../src/transport/libc.ts'
import { peerProcess, unitOf } from '../../src/transport/peer-process.ts'

let directory: string
let server: net.Server
let children: ChildProcess[] = []

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'purser-peer-'))
  server = net.createServer({ pauseOnConnect: true }).listen(join(directory, 'p.sock'))
  await once(server, 'listening')
})
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  children = []
  server.close()
  rmSync(directory, { recursive: true, force: true })
})

/** A process that is called `comm` and connects, and the descriptor of its connection here. */
async function connected(comm: string): Promise<{ child: ChildProcess; fd: number; socket: net.Socket }> {
  const code = `require('fs').writeFileSync('/proc/self/comm', ${JSON.stringify(comm)})
    require('net').connect(process.argv[1])`
  const child = spawn(process.execPath, ['-e', code, join(directory, 'p.sock')], { stdio: 'inherit' })
  children.push(child)
  const [socket] = (await once(server, 'connection')) as [net.Socket]
  return { child, socket, fd: (socket as unknown as { _handle: { fd: number } })._handle.fd }
}

describe('peerProcess', () => {
  test.each([
    ['a pidfd', undefined],
    ['start times, where the kernel gives no pidfd', null],
  ])('names a process that runs, told by %s, and leaves no descriptor behind', async (_, pidfd) => {
    const { child, fd, socket } = await connected('b) 7 (ot')
    const before = readdirSync('/proc/self/fd').length
    expect(peerProcess(fd, child.pid!, pidfd).comm).toBe('b) 7 (ot')
    expect(readdirSync('/proc/self/fd')).toHaveLength(before)
    child.kill('SIGKILL')
    socket.destroy()
  })

  test('names nobody once that process is gone, whoever has its pid now', async () => {
    const { child, fd, socket } = await connected('gone')
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(peerPidfd(fd)).not.toBeNull()
    expect(peerProcess(fd, process.pid)).toEqual({ comm: null, unit: null })
    expect(peerProcess(fd, child.pid!, null)).toEqual({ comm: null, unit: null })
    socket.destroy()
  })

  test('names nobody whose pid is hidden', async () => {
    const { child, fd, socket } = await connected('hidden')
    for (const pidfd of [undefined, null])
      expect(peerProcess(fd, 0, pidfd)).toEqual({ comm: null, unit: null })
    child.kill('SIGKILL')
    socket.destroy()
  })
})

test.each([
  ['a service', '0::/system.slice/alice-job.service', 'alice-job.service'],
  ['a service of a user', '0::/user.slice/user@1000.service/app.slice/bot@7.service', 'bot@7.service'],
  ['a cgroup below a service', '0::/system.slice/docker.service/inner', 'docker.service'],
  ['a login', '0::/user.slice/user-1000.slice/session-3.scope', 'session-3.scope'],
  [
    'a host with both hierarchies',
    '9:name=systemd:/system.slice/a.service\n8:pids:/b.service\n0::/',
    'a.service',
  ],
  ['no unit', '0::/', null],
  ['a cgroup of one controller', '8:pids:/system.slice/b.service\n0::/', null],
  ['nothing to read', null, null],
  ['a name beyond any bound', `0::/${'x'.repeat(3000)}.service`, 'x'.repeat(255)],
])('the unit of %s', (_, cgroup, unit) => {
  expect(unitOf(cgroup)).toBe(unit)
})
