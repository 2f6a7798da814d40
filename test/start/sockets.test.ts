import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { RawClient } from '../support/raw-client.ts'
import { cleanUp, keyFile, otherUid, refusal, startReady, temporaryDirectory } from './purserd.ts'

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

async function pings(path: string): Promise<boolean> {
  const client = new RawClient(path)
  try {
    return (await client.call('system.ping')).result.pong
  } finally {
    client.close()
  }
}

describe('a socket path', () => {
  test('held by a live daemon is 69, and that one goes on', async () => {
    const first = await startReady(args('a'), home)
    expect(await refusal(69, args('b'), home)).toBe(
      `the socket ${socket} is held by a live daemon; stop it, or name another path with --socket`,
    )
    expect(await pings(socket)).toBe(true)
    expect((await first.stop()).code).toBe(0)
  })

  test('held by a live server that is no purserd is 69 too', async () => {
    mkdirSync(join(home, 'run'))
    const server = net.createServer().listen(socket)
    await once(server, 'listening')
    expect(await refusal(69, args('a'), home)).toMatch(/is held by a live daemon; /)
    expect(server.listening && existsSync(socket)).toBe(true)
    server.close()
  })

  test('that a killed daemon has left is taken over; a clean stop leaves none', async () => {
    const killed = await startReady(args('a'), home)
    await killed.stop('SIGKILL')
    expect(existsSync(socket)).toBe(true)
    const next = await startReady(args('a'), home)
    expect(await pings(socket)).toBe(true)
    await next.stop()
    expect(existsSync(socket)).toBe(false)
  })

  test('that is something else is 78 and stays what it is', async () => {
    mkdirSync(join(home, 'run'))
    writeFileSync(socket, 'precious')
    expect(await refusal(78, args('a'), home)).toMatch(/exists and is no socket; remove it, or name another/)
    expect(readFileSync(socket, 'utf8')).toBe('precious')
    expect(await refusal(78, args('a', home), home)).toMatch(/exists and is no socket/)
    const link = join(home, 'link')
    symlinkSync(socket, link)
    expect(await refusal(78, args('a', link), home)).toMatch(/exists and is no socket/)
  })

  test('in a directory that cannot be made is 69', async () => {
    writeFileSync(join(home, 'run'), '')
    expect(await refusal(69, args('a'), home)).toMatch(
      /^cannot listen on \S+\/run\/purser.sock: .+; name another/,
    )
  })

  test('for admins that cannot be used ends the start although the other one listens already', async () => {
    const admin = join(home, 'admin')
    writeFileSync(admin, '')
    expect(await refusal(78, [...args('a'), '--admin-socket', admin], home)).toMatch(
      /exists and is no socket/,
    )
    expect(existsSync(socket)).toBe(false)
  })

  test('of 107 bytes works', async () => {
    const long = join(home, 's'.repeat(107 - home.length - 1))
    await startReady(args('a', long), home)
    expect(await pings(long)).toBe(true)
  })
})

describe('the directory of the admin socket', () => {
  let directory: string
  let admin: string[]
  beforeEach(() => {
    directory = join(home, 'admins')
    admin = ['--admin-socket', join(directory, 'purser.sock')]
  })

  test('is made 0700 whatever the umask, and one that is so is taken', async () => {
    await (await startReady([...args('a'), ...admin], home)).stop()
    expect(statSync(directory).mode & 0o777).toBe(0o700)
    const again = await startReady([...args('a'), ...admin], home)
    expect(await pings(join(directory, 'purser.sock'))).toBe(true)
    expect(statSync(join(directory, 'purser.sock')).mode & 0o777).toBe(0o600)
    await again.stop()
  })

  test.each(['755', '710', '701', '770', '600'])('of mode 0%s is 78', async (mode) => {
    mkdirSync(directory)
    chmodSync(directory, Number.parseInt(mode, 8))
    expect(await refusal(78, [...args('a'), ...admin], home)).toBe(
      `the directory of the admin socket, ${directory}, has mode 0${mode}, not 0700; ` +
        `chmod 0700 ${directory}, or name a path in a directory of its own with --admin-socket`,
    )
    expect(existsSync(socket)).toBe(false)
  })

  test('of somebody else is 78', async ({ skip }) => {
    const uid = otherUid(skip)
    mkdirSync(directory, { mode: 0o700 })
    chownSync(directory, uid, uid)
    expect(await refusal(78, [...args('a'), ...admin], home)).toBe(
      `the directory of the admin socket, ${directory}, is neither root's nor the daemon's but of uid ${uid}; ` +
        'name a path in a directory of its own with --admin-socket',
    )
  })

  test('that holds the other socket too is 78', async () => {
    mkdirSync(join(home, 'run'), { mode: 0o700 })
    symlinkSync(join(home, 'run'), join(home, 'other-name'))
    for (const name of ['run', 'other-name']) {
      expect(await refusal(78, [...args('a'), '--admin-socket', join(home, name, 'a.sock')], home)).toMatch(
        /^the directory of the admin socket, \S+, is that of the other socket too; name a path in a directory/,
      )
    }
  })
})
