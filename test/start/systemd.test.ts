import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import koffi from 'koffi'
import { beforeEach, describe, expect, test } from 'vitest'
import { RawClient } from '../support/raw-client.ts'
import { skipWith } from '../support/skip.ts'
import { cleanUp, keyFile, launcher, Purserd, refusal, startReady, temporaryDirectory } from './purserd.ts'

cleanUp()

let home: string
let key: string
let socket: string

beforeEach(() => {
  home = temporaryDirectory()
  key = keyFile(home)
  socket = join(home, 'run/purser.sock')
})

const args = (data: string, at = socket): string[] => [
  ...['--data-dir', join(home, data), '--socket', at, '--master-key-file', key],
]

const library = koffi.load('libc.so.6')
const libc = {
  socket: library.func('int socket(int, int, int)'),
  bind: library.func('int bind(int, void *, uint32_t)'),
  recv: library.func('long recv(int, void *, size_t, int)'),
}
const AF_UNIX = 1
const SOCK_DGRAM = 2
const MSG_DONTWAIT = 0x40

describe('socket activation', () => {
  const activate = 'systemd-socket-activate'

  /** Runs purserd under the real systemd-socket-activate; it starts with the first connection. */
  function activated(
    skip: (note: string) => void,
    listen: string[],
    names: string | null,
    more: string[] = [],
  ): Purserd {
    if (spawnSync(activate, ['--version']).error !== undefined) skipWith(skip, `${activate} is not installed`)
    return new Purserd(
      [
        ...listen.map((path) => `--listen=${path}`),
        ...(names === null ? [] : [`--fdname=${names}`]),
        ...['--setenv=PATH', '--setenv=HOME', launcher, ...args('a', join(home, 'unused.sock')), ...more],
      ],
      home,
      { command: activate },
    )
  }

  async function connected(path: string): Promise<RawClient> {
    for (let tries = 0; !existsSync(path) && tries < 200; tries++) await new Promise((r) => setTimeout(r, 20))
    return new RawClient(path)
  }

  test('the handed socket is served, the path of the configuration is not touched', async ({ skip }) => {
    const path = join(home, 'handed.sock')
    const purserd = activated(skip, [path], 'purser')
    const client = await connected(path)
    // Sent before the daemon runs: the socket holds it.
    expect((await client.call('system.ping')).result).toMatchObject({ pong: true })
    expect(await purserd.ready()).toMatchObject({ socket: path, adminSocket: null })
    expect(existsSync(join(home, 'unused.sock'))).toBe(false)
    const environ = readFileSync(`/proc/${purserd.pid}/environ`, 'utf8')
    expect(environ).toContain('LISTEN_FDNAMES=purser')
    client.close()
    expect((await purserd.stop()).code).toBe(0)
    // It is the manager's: the next start must find it.
    expect(statSync(path).isSocket()).toBe(true)
  })

  test('two sockets are told apart by name, not by order', async ({ skip }) => {
    const main = join(home, 'main.sock')
    const admin = join(home, 'admin.sock')
    // Without the daemon's own admin socket on it, uid 0 and its own uid are admins; with it, only there.
    const purserd = activated(skip, [admin, main], 'purser-admin:purser', ['--admin-socket', join(home, 'x')])
    const client = await connected(main)
    const hello = await client.call('session.hello')
    expect(hello.result.identity.role).toBe('none')
    expect(await purserd.ready()).toMatchObject({ socket: main, adminSocket: admin })
    const adminClient = await connected(admin)
    expect((await adminClient.call('session.hello')).result.identity.role).toBe('admin')
    client.close()
    adminClient.close()
  })

  test.for<[string, string | null, string[], RegExp]>([
    [
      'an unknown name',
      'purse',
      [],
      /^socket activation: descriptor 3 is named "purse"; give one ListenStream=/,
    ],
    ['no name', null, [], /^socket activation: descriptor 3 is named "(systemd-socket-activate|unknown|)"; /],
    [
      'no socket for admins where one is asked for',
      'purser',
      ['--admin-socket', '/x'],
      /did not hand one over; add/,
    ],
    [
      'only the one for admins',
      'purser-admin',
      [],
      /^socket activation: no socket named purser was handed over; /,
    ],
  ])('%s is 78', async ([, names, more, line], { skip }) => {
    const path = join(home, 'h.sock')
    const purserd = activated(skip, [path], names, more)
    const client = await connected(path)
    const { code, stderr } = await purserd.ended
    client.close()
    expect(code).toBe(78)
    const told = stderr.split('\n').filter((text) => text.startsWith('purserd: '))
    expect(told).toHaveLength(1)
    expect(told[0]!.slice('purserd: '.length)).toMatch(line)
    expect(stderr).not.toMatch(/\n\s+at /)
    expect(existsSync(join(home, 'a'))).toBe(false)
  })

  test('variables meant for another process are ignored', async () => {
    const env = { LISTEN_FDS: '1', LISTEN_PID: '1', LISTEN_FDNAMES: 'purse' }
    const purserd = await startReady(args('a'), home, { env })
    expect(await purserd.ready()).toMatchObject({ socket })
  })
})

/** systemd's end of NOTIFY_SOCKET, a bound datagram socket, which Node does not have. */
class NotifyReceiver {
  readonly #fd: number
  readonly #heard: string[] = []

  constructor(path: string) {
    const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), name])
    this.#fd = libc.socket(AF_UNIX, SOCK_DGRAM, 0)
    expect(libc.bind(this.#fd, address, address.length)).toBe(0)
  }

  /** Every message so far, in order. */
  heard(): readonly string[] {
    const bytes = Buffer.alloc(4096)
    for (;;) {
      const length = Number(libc.recv(this.#fd, bytes, bytes.length, MSG_DONTWAIT))
      if (length < 0) return this.#heard
      this.#heard.push(bytes.toString('utf8', 0, length))
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

describe('systemd is told', () => {
  test.each(['a path', 'an abstract name'])('READY=1, signs of life and STOPPING=1, at %s', async (kind) => {
    const path = kind === 'a path' ? join(home, 'notify') : `@purser-notify-${process.pid}`
    using receiver = new NotifyReceiver(path)
    const env = { NOTIFY_SOCKET: path, WATCHDOG_USEC: '200000' }
    const purserd = await startReady(args('a'), home, { env })
    await expect.poll(() => receiver.heard()).toContain(`READY=1\nSTATUS=serving on ${socket}`)
    const alive = () => receiver.heard().filter((message) => message === 'WATCHDOG=1').length
    await expect.poll(alive, { timeout: 5000 }).toBeGreaterThan(1)
    expect((await purserd.stop()).code).toBe(0)
    expect(receiver.heard().at(0)).toContain('READY=1')
    expect(receiver.heard().at(-1)).toBe('STOPPING=1')
    expect(receiver.heard().filter((message) => message !== 'WATCHDOG=1')).toHaveLength(2)
  })

  test('whether it is sealed, at the start and whenever that changes', async () => {
    using receiver = new NotifyReceiver(join(home, 'notify'))
    const env = { NOTIFY_SOCKET: join(home, 'notify') }
    const purserd = await startReady(args('a'), home, { env })
    const client = new RawClient(socket)
    for (const method of ['system.seal', 'system.seal', 'system.unseal', 'system.seal'])
      expect((await client.call(method)).error).toBeUndefined()
    client.close()
    await purserd.stop()
    const again = await startReady(args('a'), home, { env })
    await again.stop()
    const sealed = `sealed, waiting for system.unseal on ${socket}`
    expect(receiver.heard().map((message) => message.replace('STATUS=', ''))).toEqual([
      `READY=1\nserving on ${socket}`,
      sealed,
      `serving on ${socket}`,
      sealed,
      'STOPPING=1',
      `READY=1\n${sealed}`,
      'STOPPING=1',
    ])
  })

  test('a receiver that is not there is no reason not to serve', async () => {
    const purserd = await startReady(args('a'), home, { env: { NOTIFY_SOCKET: join(home, 'nobody') } })
    const client = new RawClient(socket)
    expect((await client.call('system.ping')).result).toMatchObject({ pong: true })
    client.close()
    expect((await purserd.stop()).code).toBe(0)
  })

  test('nothing is told where the start fails', async () => {
    using receiver = new NotifyReceiver(join(home, 'notify'))
    writeFileSync(join(home, 'run'), '')
    await refusal(69, args('a'), home, { env: { NOTIFY_SOCKET: join(home, 'notify') } })
    expect(receiver.heard()).toEqual([])
  })
})
