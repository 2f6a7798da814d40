import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import koffi from 'koffi'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { StartError } from '../../src/errors.ts'
import { activatedSockets, notify, watchdogIntervalMs } from '../../src/transport/systemd.ts'

const module = resolve(import.meta.dirname, '../../src/transport/systemd.ts')
let directory: string

/** systemd's side, which Node does not have: a socket that is bound and not served, and one for datagrams. */
const library = koffi.load('libc.so.6')
const libc = {
  socket: library.func('int socket(int, int, int)'),
  bind: library.func('int bind(int, void *, uint32_t)'),
  listen: library.func('int listen(int, int)'),
  recv: library.func('long recv(int, void *, size_t, int)'),
}
const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const MSG_DONTWAIT = 0x40

function bound(path: string, type: number): number {
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
  const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), name])
  const fd: number = libc.socket(AF_UNIX, type, 0)
  expect(libc.bind(fd, address, address.length)).toBe(0)
  return fd
}

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-systemd-'))
})

afterAll(() => rmSync(directory, { recursive: true, force: true }))

function refusal(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    expect(error).toBeInstanceOf(StartError)
    expect((error as StartError).exitCode).toBe(78)
    return (error as StartError).message
  }
  return 'no refusal'
}

describe('activatedSockets', () => {
  /**
   * What a process makes of descriptors it was handed from 3 on, as systemd does it: the pid it is told is its own.
   * Answers the sockets, the refusal, and the variables that are left.
   */
  function activated(fds: number[], names: string | undefined): Record<string, unknown> {
    const code = `import { activatedSockets } from ${JSON.stringify(module)}
      let outcome
      try { outcome = { sockets: activatedSockets(process.env, process.pid) } }
      catch (error) { outcome = { refused: error.message, exitCode: error.exitCode } }
      const left = Object.keys(process.env).filter((name) => name.startsWith('LISTEN_'))
      console.log(JSON.stringify({ ...outcome, left }))`
    const env: NodeJS.ProcessEnv = { PATH: process.env['PATH'], LISTEN_FDS: String(fds.length) }
    if (names !== undefined) env['LISTEN_FDNAMES'] = names
    const child = spawnSync(
      '/bin/sh',
      ['-c', 'LISTEN_PID=$$ exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', code],
      { env, stdio: ['ignore', 'pipe', 'inherit', ...fds], encoding: 'utf8' },
    )
    return JSON.parse(child.stdout) as Record<string, unknown>
  }

  async function listen(name: string): Promise<{ server: net.Server; fd: number; path: string }> {
    const path = join(directory, name)
    const server = net.createServer().listen(path)
    await once(server, 'listening')
    return { server, fd: (server as unknown as { _handle: { fd: number } })._handle.fd, path }
  }

  test('one socket, and two told apart by name in either order', async () => {
    const main = await listen('purser.sock')
    const admin = await listen('admin.sock')
    try {
      expect(activated([main.fd], 'purser')).toEqual({
        sockets: [{ fd: 3, name: 'purser', path: main.path }],
        left: [],
      })
      expect(activated([admin.fd, main.fd], 'purser-admin:purser')).toEqual({
        sockets: [
          { fd: 3, name: 'purser-admin', path: admin.path },
          { fd: 4, name: 'purser', path: main.path },
        ],
        left: [],
      })
    } finally {
      main.server.close()
      admin.server.close()
    }
  })

  test('a client that connected before the start is served', async () => {
    const path = join(directory, 'served.sock')
    const fd = bound(path, SOCK_STREAM)
    expect(libc.listen(fd, 8)).toBe(0)
    const client = net.connect(path)
    await once(client, 'connect')
    const code = `import net from 'node:net'
      import { activatedSockets } from ${JSON.stringify(module)}
      const [socket] = activatedSockets(process.env, process.pid)
      const served = net.createServer((client) => { client.end('served'); served.close() }).listen({ fd: socket.fd })`
    const child = spawn(
      '/bin/sh',
      ['-c', 'LISTEN_PID=$$ exec "$@"', 'sh', process.execPath, '--input-type=module', '-e', code],
      { env: { LISTEN_FDS: '1', LISTEN_FDNAMES: 'purser' }, stdio: ['ignore', 'inherit', 'inherit', fd] },
    )
    closeSync(fd)
    try {
      let text = ''
      for await (const chunk of client.setEncoding('utf8')) text += chunk
      expect(text).toBe('served')
    } finally {
      child.kill()
    }
  })

  test('not activated, or activated for another process', () => {
    const pid = process.pid
    expect(activatedSockets({}, pid)).toEqual([])
    const env = { LISTEN_PID: String(pid + 1), LISTEN_FDS: '1', LISTEN_FDNAMES: 'purser', HOME: '/x' }
    expect(activatedSockets(env, pid)).toEqual([])
    // A program started later must not take them for its own.
    expect(env).toEqual({ HOME: '/x' })
    expect(activatedSockets({ LISTEN_FDS: '1' }, pid)).toEqual([])
    expect(activatedSockets({ LISTEN_PID: String(pid) }, pid)).toEqual([])
  })

  test('names and numbers that are not ours are refused before a descriptor is touched', () => {
    const refused = (fds: string, names?: string) =>
      refusal(() =>
        activatedSockets(
          { LISTEN_PID: String(process.pid), LISTEN_FDS: fds, LISTEN_FDNAMES: names },
          process.pid,
        ),
      )
    expect(refused('1', 'purser.socket')).toBe('socket activation: descriptor 3 is named "purser.socket"')
    expect(refused('1', 'unknown')).toBe('socket activation: descriptor 3 is named "unknown"')
    expect(refused('1')).toBe('socket activation: descriptor 3 is named ""')
    expect(refused('1', '')).toBe('socket activation: descriptor 3 is named ""')
    expect(refused('3', 'purser:purser-admin:purser')).toBe('socket activation: 3 sockets were handed over')
    for (const count of ['0', '-1', '1.0', '01', 'one', '', '1e1', '99999999999999999999']) {
      expect(refused(count, 'purser')).toBe('LISTEN_FDS is not a number')
    }
  })

  test('what purser does not serve is refused', async () => {
    const main = await listen('main.sock')
    const other = await listen('other.sock')
    const tcp = net.createServer().listen(0, '127.0.0.1')
    await once(tcp, 'listening')
    const tcpFd = (tcp as unknown as { _handle: { fd: number } })._handle.fd
    const client = net.connect(other.path)
    const [accepted] = (await once(other.server, 'connection')) as [net.Socket]
    const file = openSync('/dev/null', 'r')
    const cases: [string, number[], string | undefined, string][] = [
      ['two of one name', [main.fd, other.fd], 'purser:purser', 'two sockets named purser were handed over'],
      ['admin alone', [main.fd], 'purser-admin', 'no socket named purser was handed over'],
      ['a second without name', [main.fd, other.fd], 'purser', 'descriptor 4 is named ""'],
      ['TCP', [tcpFd], 'purser', 'descriptor 3 (purser) is no listening Unix stream socket'],
      [
        'a connection, as Accept=yes hands it',
        [(accepted as unknown as { _handle: { fd: number } })._handle.fd],
        'purser',
        'descriptor 3 (purser) is no listening Unix stream socket',
      ],
      ['a file', [file], 'purser', 'descriptor 3 (purser) is no listening Unix stream socket'],
    ]
    try {
      for (const [title, fds, names, message] of cases) {
        expect(activated(fds, names), title).toEqual({
          refused: `socket activation: ${message}`,
          exitCode: 78,
          left: [],
        })
      }
    } finally {
      client.destroy()
      accepted.destroy()
      for (const server of [main.server, other.server, tcp]) server.close()
      closeSync(file)
    }
  })
})

describe('notify', () => {
  /** What a receiver at `path`, as systemd is one, got of the messages `send` sends. */
  function received(path: string, send: () => void): string[] {
    const fd = bound(path, SOCK_DGRAM)
    try {
      send()
      const messages: string[] = []
      const bytes = Buffer.alloc(4096)
      for (;;) {
        const length = Number(libc.recv(fd, bytes, bytes.length, MSG_DONTWAIT))
        if (length < 0) return messages
        messages.push(bytes.toString('utf8', 0, length))
      }
    } finally {
      closeSync(fd)
    }
  }

  test('each state arrives as one datagram', () => {
    const path = join(directory, 'notify.sock')
    const env = { NOTIFY_SOCKET: path }
    const messages = received(path, () => {
      expect(notify(env, { ready: true, status: 'serving', mainPid: 7 })).toEqual({ sent: true })
      expect(notify(env, { watchdog: true })).toEqual({ sent: true })
      expect(notify(env, { stopping: true })).toEqual({ sent: true })
    })
    expect(messages).toEqual(['MAINPID=7\nREADY=1\nSTATUS=serving', 'WATCHDOG=1', 'STOPPING=1'])
  })

  test('an abstract address', () => {
    const path = `@purser-notify-${process.pid}`
    expect(received(path, () => notify({ NOTIFY_SOCKET: path }, { ready: true }))).toEqual(['READY=1'])
  })

  test('a status is one line of bounded length', () => {
    const path = join(directory, 'status.sock')
    const status = `a\nREADY=1\r\nb${'x'.repeat(10_000)}`
    const [message] = received(path, () => notify({ NOTIFY_SOCKET: path }, { status }))
    expect(message).toMatch(/^STATUS=a READY=1 bx+$/)
    expect(message?.length).toBeLessThan(300)
  })

  test('nobody listens: told, not thrown', () => {
    expect(notify({}, { ready: true })).toEqual({ sent: false, reason: 'NOTIFY_SOCKET is not set' })
    expect(notify({ NOTIFY_SOCKET: '' }, { ready: true }).sent).toBe(false)
    const gone = notify({ NOTIFY_SOCKET: join(directory, 'gone.sock') }, { ready: true })
    expect(gone).toEqual({ sent: false, reason: 'datagram: sendto failed with ENOENT' })
    const vsock = notify({ NOTIFY_SOCKET: 'vsock:2:1234' }, { ready: true })
    expect(vsock).toMatchObject({
      sent: false,
      reason: expect.stringContaining('neither a path nor abstract'),
    })
  })
})

describe('watchdogIntervalMs', () => {
  test('half of the timeout, for this process', () => {
    expect(watchdogIntervalMs({ WATCHDOG_USEC: '10000000' }, 5)).toBe(5000)
    expect(watchdogIntervalMs({ WATCHDOG_USEC: '10000000', WATCHDOG_PID: '5' }, 5)).toBe(5000)
    expect(watchdogIntervalMs({ WATCHDOG_USEC: '1' }, 5)).toBe(1)
  })

  test('none for another process, none without the variable', () => {
    expect(watchdogIntervalMs({ WATCHDOG_USEC: '10000000', WATCHDOG_PID: '6' }, 5)).toBeNull()
    expect(watchdogIntervalMs({ WATCHDOG_PID: '5' }, 5)).toBeNull()
  })

  test('a value that is no number of microseconds', () => {
    for (const value of ['', '0', '-1', '1.5', 'x', '1e3', '9999999999999999']) {
      expect(refusal(() => watchdogIntervalMs({ WATCHDOG_USEC: value }, 5))).toBe(
        'WATCHDOG_USEC is not a number of microseconds',
      )
    }
  })
})
