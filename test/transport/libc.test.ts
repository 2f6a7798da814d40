import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import koffi from 'koffi'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  acceptConnection,
  boundSocketPath,
  closeFd,
  duplicateFd,
  hasEnded,
  isListeningUnixSocket,
  LibcError,
  lockMemory,
  lowerWorkerPriority,
  peerCredentials,
  peerGroups,
  sealAgainstWritableCode,
  sendAndClose,
  sendDatagram,
  setCloseOnExec,
  withMemoryUnlocked,
} from '../../src/transport/libc.ts'
import { skipWith } from '../support/skip.ts'

/** An id nobody has on a usual machine: the kernel does not ask whether it is in /etc/passwd. */
const otherUid = 54_321
const otherGid = 54_322

const root = resolve(import.meta.dirname, '../..')
let directory: string
/** Why a second uid cannot be had here; null where it can. */
let noOtherUid: string | null = null

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-libc-'))
  chmodSync(directory, 0o755)
  // Node strips types with WebAssembly, which --jitless lacks, so the children run the stripped module.
  const source = readFileSync(join(root, 'src/transport/libc.ts'), 'utf8')
  writeFileSync(join(directory, 'libc.mjs'), stripTypeScriptTypes(source))
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'))
  if (process.getuid?.() !== 0) noOtherUid = 'not run as root'
  else {
    const probe = spawnSync(process.execPath, ['--input-type=module', '-e', 'import "./libc.mjs"'], {
      cwd: directory,
      uid: otherUid,
      gid: otherGid,
    })
    if (probe.status !== 0) noOtherUid = 'another uid may not read the work tree'
  }
})

afterAll(() => rmSync(directory, { recursive: true, force: true }))

function skipWithoutOtherUid(skip: (note: string) => void): void {
  if (noOtherUid === null) return
  skipWith(skip, `needs a second uid: ${noOtherUid}`)
}

/** Runs an ES module in a Node of its own with libc.ts as `libc`; answers what it gave to `report`. */
function runNode(code: string, flags: string[] = [], options: SpawnOptions = {}): unknown {
  const module = `import * as libc from './libc.mjs'
    import { readFileSync, readdirSync } from 'node:fs'
    const report = (value) => console.log(JSON.stringify(value))
    const statusLine = (name) => readFileSync('/proc/self/status', 'utf8').match(new RegExp('^' + name + ':\\\\s*(.*)$', 'm'))[1]
    ${code}`
  const child = spawnSync(process.execPath, [...flags, '--input-type=module', '-e', module], {
    cwd: directory,
    encoding: 'utf8',
    ...options,
  } as Parameters<typeof spawnSync>[2])
  const stdout = String(child.stdout)
  if (child.status !== 0) {
    throw new Error(`child ended with ${child.status ?? child.signal}: ${stdout}${String(child.stderr)}`)
  }
  return JSON.parse(stdout)
}

function fdOf(handle: net.Socket | net.Server): number {
  return (handle as unknown as { _handle: { fd: number } })._handle.fd
}

function errorCode(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    expect(error).toBeInstanceOf(LibcError)
    return (error as LibcError).code
  }
  return 'no error'
}

/** A listening socket and what `inspect` sees of the process that runs `connect` (JavaScript that makes `client`). */
async function seen<T>(
  become: string,
  inspect: (fd: number) => T,
): Promise<{ result: T; child: ChildProcess }> {
  const path = join(directory, 'seen.sock')
  const server = net.createServer({ pauseOnConnect: true }).listen(path)
  await once(server, 'listening')
  chmodSync(path, 0o666)
  const child = spawn(
    process.execPath,
    ['-e', `${become}; require('node:net').connect(${JSON.stringify(path)}).on('error', () => {}).resume()`],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  try {
    const [socket] = (await once(server, 'connection')) as [net.Socket]
    const result = inspect(fdOf(socket))
    socket.destroy()
    await once(child, 'exit')
    return { result, child }
  } finally {
    child.kill()
    server.close()
  }
}

describe('acceptConnection, hasEnded, sendAndClose', () => {
  /** A listening socket from which Node has taken the first connection, and `count` more clients that wait. */
  async function waiting(count: number): Promise<{ server: net.Server; clients: net.Socket[] }> {
    const path = join(directory, 'waiting.sock')
    const server = net.createServer({ pauseOnConnect: true })
    const clients: net.Socket[] = []
    await new Promise<void>((resolve) => {
      server.once('connection', (socket) => {
        socket.destroy()
        // In the turn of the first: they wait in the kernel.
        for (let n = 0; n < count; n++) clients.push(net.connect({ path, allowHalfOpen: true }))
        resolve()
      })
      server.listen(path, () => net.connect(path).on('error', () => undefined))
    })
    return { server, clients }
  }

  test('all who wait are accepted, closed on exec, and then none', async () => {
    const { server, clients } = await waiting(3)
    const fds = [1, 2, 3].map(() => acceptConnection(fdOf(server))!)
    expect(acceptConnection(fdOf(server))).toBeNull()
    expect(acceptConnection(1_000_000)).toBeNull()
    for (const fd of fds) {
      expect(peerCredentials(fd).pid).toBe(process.pid)
      expect(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')).toMatch(/^flags:\s+02004002$/m)
      closeFd(fd)
    }
    for (const client of clients) client.destroy()
    server.close()
  })

  test('who has ended and left nothing is told from who has not, and an answer goes out with the end', async () => {
    const { server, clients } = await waiting(3)
    const fds = [1, 2, 3].map(() => acceptConnection(fdOf(server))!)
    const [silent, gone, asked] = clients as [net.Socket, net.Socket, net.Socket]
    const answers = new Map(clients.map((client) => [client, '']))
    for (const client of clients)
      client.setEncoding('utf8').on('data', (text) => answers.set(client, answers.get(client)! + text))
    gone.destroy()
    await new Promise<void>((resolve) => asked.write('x', () => resolve()))
    expect(fds.map((fd) => hasEnded(fd))).toEqual([false, true, false])
    // What was looked at is still there.
    expect(hasEnded(fds[2]!)).toBe(false)
    const ended = once(silent, 'end')
    for (const fd of fds) sendAndClose(fd, Buffer.from('no'))
    await ended
    expect(answers.get(silent)).toBe('no')
    for (const client of clients) client.destroy()
    server.close()
  })
})

describe('peerCredentials, peerGroups', () => {
  const inspect = (fd: number) => ({ credentials: peerCredentials(fd), groups: peerGroups(fd) })

  test('a process of the same uid', async () => {
    const { result, child } = await seen('', inspect)
    expect(result.credentials).toEqual({
      pid: child.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    })
    const own = /^Groups:(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? ''
    expect(result.groups).toEqual(own.trim().split(/\s+/).filter(Boolean).map(Number))
  })

  test('a second uid with supplementary groups', async ({ skip }) => {
    skipWithoutOtherUid(skip)
    const become = `process.setgroups([70003, 70001]); process.setgid(${otherGid}); process.setuid(${otherUid})`
    const { result, child } = await seen(become, inspect)
    expect(result).toEqual({
      credentials: { pid: child.pid, uid: otherUid, gid: otherGid },
      groups: [70001, 70003],
    })
  })

  test('no groups, and more than the first buffer holds', async ({ skip }) => {
    skipWithoutOtherUid(skip)
    const become = (count: number) =>
      `process.setgroups(Array.from({ length: ${count} }, (_, i) => 80000 + i)); process.setgid(${otherGid}); process.setuid(${otherUid})`
    for (const count of [0, 64, 65, 65_536]) {
      const { result } = await seen(become(count), peerGroups)
      expect(result).toEqual(Array.from({ length: count }, (_, index) => 80_000 + index))
    }
  })

  test('what is no connected Unix socket has no identity', async () => {
    const file = openSync('/dev/null', 'r')
    expect(errorCode(() => peerCredentials(file))).toBe('ENOTSOCK')
    expect(errorCode(() => peerGroups(file))).toBe('ENOTSOCK')
    closeSync(file)
    expect(errorCode(() => peerCredentials(1_000_000))).toBe('EBADF')
    expect(errorCode(() => peerGroups(1_000_000))).toBe('EBADF')

    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1')
    const [socket] = (await once(server, 'connection')) as [net.Socket]
    // The kernel itself answers success here, with uid and gid -1.
    expect(errorCode(() => peerCredentials(fdOf(socket)))).toBe('ENODATA')
    expect(errorCode(() => peerGroups(fdOf(socket)))).toBe('ENODATA')
    client.destroy()
    socket.destroy()
    server.close()
  })
})

describe('isListeningUnixSocket, boundSocketPath', () => {
  test('path, abstract name, and what is something else', async () => {
    const path = join(directory, `${'x'.repeat(107 - directory.length - 1)}`)
    expect(path).toHaveLength(107)
    const abstract = `purser-test-${process.pid}`
    for (const [address, name] of [
      [path, path],
      [`\0${abstract}`, `@${abstract}`],
    ] as const) {
      const server = net.createServer().listen(address)
      await once(server, 'listening')
      expect(isListeningUnixSocket(fdOf(server))).toBe(true)
      expect(boundSocketPath(fdOf(server))).toBe(name)
      const client = net.connect(address)
      const [socket] = (await once(server, 'connection')) as [net.Socket]
      expect(isListeningUnixSocket(fdOf(socket))).toBe(false)
      expect(boundSocketPath(fdOf(client))).toBe('')
      client.destroy()
      socket.destroy()
      server.close()
    }
    const tcp = net.createServer().listen(0, '127.0.0.1')
    await once(tcp, 'listening')
    expect(isListeningUnixSocket(fdOf(tcp))).toBe(false)
    tcp.close()
    expect(isListeningUnixSocket(1_000_000)).toBe(false)
    expect(errorCode(() => boundSocketPath(1_000_000))).toBe('EBADF')
  })
})

describe('sendDatagram', () => {
  const library = koffi.load('libc.so.6')
  const socket = library.func('int socket(int, int, int)')
  const bind = library.func('int bind(int, void *, uint32_t)')
  const receive = library.func('long recv(int, void *, size_t, int)')
  const dontWait = 0x40

  function receiver(path: string): number {
    const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
    const address = Buffer.concat([Buffer.from([1, 0]), name])
    const fd = socket(1, 2, 0)
    expect(bind(fd, address, address.length)).toBe(0)
    return fd
  }

  test('to a path and to an abstract name', () => {
    for (const path of [join(directory, 'datagram.sock'), `@purser-datagram-${process.pid}`]) {
      const fd = receiver(path)
      sendDatagram(path, Buffer.from('READY=1'))
      const bytes = Buffer.alloc(100)
      expect(Number(receive(fd, bytes, bytes.length, dontWait))).toBe(7)
      expect(bytes.toString('utf8', 0, 7)).toBe('READY=1')
      closeSync(fd)
    }
  })

  test('does not wait for a receiver that does not read', () => {
    const path = join(directory, 'full.sock')
    const fd = receiver(path)
    // net.unix.max_dgram_qlen is 10 by default, 512 under systemd.
    const fill = () => {
      for (let sent = 0; sent < 100_000; sent++) sendDatagram(path, Buffer.from('x'))
    }
    expect(errorCode(fill)).toBe('EAGAIN')
    closeSync(fd)
    expect(errorCode(() => sendDatagram(path, Buffer.from('x')))).toBe('ECONNREFUSED')
  })

  test('addresses that are none', () => {
    const send = (path: string) => errorCode(() => sendDatagram(path, Buffer.from('x')))
    expect(send(join(directory, 'nobody.sock'))).toBe('ENOENT')
    expect(send(`/${'x'.repeat(107)}`)).toBe('ENAMETOOLONG')
    expect(send(`@${'x'.repeat(108)}`)).toBe('ENAMETOOLONG')
    expect(send('relative.sock')).toBe('EAFNOSUPPORT')
    expect(send('')).toBe('EAFNOSUPPORT')
  })
})

describe('duplicateFd, setCloseOnExec', () => {
  const closesOnExec = (fd: number): boolean => {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]
    return (Number.parseInt(flags ?? '', 8) & 0o2000000) !== 0
  }

  test('the copy outlives the original and is closed on exec', () => {
    const original = openSync('/proc/self/comm', 'r')
    const copy = duplicateFd(original)
    closeSync(original)
    expect(copy).toBeGreaterThan(2)
    expect(closesOnExec(copy)).toBe(true)
    expect(readSync(copy, Buffer.alloc(10))).toBeGreaterThan(0)
    closeSync(copy)
    expect(errorCode(() => duplicateFd(copy))).toBe('EBADF')
  })

  test('a descriptor that would outlive exec', () => {
    const fcntl = koffi.load('libc.so.6').func('int fcntl(int, int, long)')
    const fd = openSync('/dev/null', 'r')
    expect(fcntl(fd, 2, 0)).toBe(0)
    expect(closesOnExec(fd)).toBe(false)
    setCloseOnExec(fd)
    expect(closesOnExec(fd)).toBe(true)
    closeSync(fd)
    expect(errorCode(() => setCloseOnExec(1_000_000))).toBe('EBADF')
  })
})

describe('setNotDumpable, disableCoreDumps', () => {
  test('a process of the same uid can no longer read the environment', async ({ skip }) => {
    skipWithoutOtherUid(skip)
    const ids = { uid: otherUid, gid: otherGid }
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import * as libc from './libc.mjs'
         process.stdin.once('data', () => { libc.setNotDumpable(); console.log('done') })
         console.log('open')`,
      ],
      { cwd: directory, stdio: ['pipe', 'pipe', 'inherit'], env: { MARK: 'visible' }, ...ids },
    )
    const readEnvironment = () =>
      runNode(
        `let seen; try { seen = readFileSync('/proc/${child.pid}/environ', 'utf8') } catch (error) { seen = error.code }
         report(seen)`,
        [],
        ids,
      )
    try {
      await once(child.stdout, 'data')
      expect(readEnvironment()).toContain('MARK=visible')
      child.stdin.write('x')
      await once(child.stdout, 'data')
      expect(readEnvironment()).toBe('EACCES')
    } finally {
      child.kill()
    }
  })

  test('the core limit is 0, once and again', () => {
    const limits = runNode(
      `const core = () => readFileSync('/proc/self/limits', 'utf8').match(/core file size\\s+(\\S+)\\s+(\\S+)/).slice(1)
       libc.disableCoreDumps(); const once = core(); libc.disableCoreDumps(); report([once, core()])`,
    )
    expect(limits).toEqual([
      ['0', '0'],
      ['0', '0'],
    ])
  })
})

describe('lockMemory', () => {
  test('refuses with JIT, whose pages V8 discards, whatever hides it', () => {
    expect(lockMemory()).toBe('not locked: needs node --jitless')
    const code = 'delete globalThis.WebAssembly; report(libc.lockMemory())'
    expect(runNode(code)).toBe('not locked: needs node --jitless')
    const flags = ['--jitless', '--no-jitless']
    expect(runNode('report(libc.lockMemory())', flags)).toBe('not locked: needs node --jitless')
  })

  test('locks without JIT and survives growth, or says what is missing', () => {
    const code = `const answer = libc.lockMemory()
      let kept = []; for (let i = 0; i < 200; i++) { kept.push(new Array(20_000).fill(i)); if (i % 50 === 0) kept = [] }
      globalThis.gc()
      report({ answer, lockedKiB: parseInt(statusLine('VmLck')), residentMiB: parseInt(statusLine('VmRSS')) / 1024 })`
    const { answer, lockedKiB, residentMiB } = runNode(code, ['--jitless', '--expose-gc']) as {
      answer: string
      lockedKiB: number
      residentMiB: number
    }
    if (answer === 'locked') {
      expect(lockedKiB).toBeGreaterThan(100_000)
      // Locked as touched: locking all that is mapped costs more than 150 MiB.
      expect(residentMiB).toBeLessThan(120)
    } else {
      console.warn(`memory is not locked in this environment: ${answer}`)
      expect(answer).toMatch(/^not locked: RLIMIT_MEMLOCK is \d+ bytes/)
      expect(lockedKiB).toBe(0)
    }
  })

  test('memory can be given back while it is unlocked, and is locked again', () => {
    // V8 gives back what dropped contexts leave between others; where it is locked the kernel refuses, and V8 aborts.
    const code = `import vm from 'node:vm'
      const answer = libc.lockMemory()
      const before = parseInt(statusLine('VmLck'))
      let kept = []
      for (let times = 0; times < 3; times++) {
        for (let i = 0; i < 300; i++) kept.push(vm.createContext())
        kept = kept.filter((_, i) => i % 100 === 0)
        await new Promise((resolve) => setTimeout(resolve, 5))
        libc.withMemoryUnlocked(() => globalThis.gc())
      }
      report({ answer, before, after: parseInt(statusLine('VmLck')) })`
    const outcome = runNode(code, ['--jitless', '--expose-gc']) as {
      answer: string
      before: number
      after: number
    }
    if (outcome.answer !== 'locked')
      console.warn(`memory is not locked in this environment: ${outcome.answer}`)
    expect(outcome.after).toBeGreaterThanOrEqual(outcome.before)
    let runs = 0
    withMemoryUnlocked(() => void runs++)
    expect(runs).toBe(1)
  })

  test('a finite limit without the capability locks nothing', ({ skip }) => {
    skipWithoutOtherUid(skip)
    const code = `report({ answer: libc.lockMemory(), locked: statusLine('VmLck') })`
    const limited = runNode(code, ['--jitless'], { uid: otherUid, gid: otherGid }) as Record<string, string>
    if (limited['answer'] === 'locked') return skip('RLIMIT_MEMLOCK is unlimited here')
    expect(limited['answer']).toMatch(/^not locked: RLIMIT_MEMLOCK is \d+ bytes, needs LimitMEMLOCK=infinity/)
    expect(limited['locked']).toBe('0 kB')
  })
})

describe('sealAgainstWritableCode', () => {
  test('refuses with JIT', () => {
    expect(sealAgainstWritableCode()).toBe('not sealed: needs node --jitless')
  })

  test('written memory does not become executable, before and after', ({ skip }) => {
    const code = `import koffi from 'koffi'
      const c = koffi.load('libc.so.6')
      const mmap = c.func('void *mmap(void *, size_t, int, int, int, long)')
      const mprotect = c.func('int mprotect(void *, size_t, int)')
      const becomesCode = () => mprotect(mmap(null, 4096, 3, 0x22, -1, 0), 4096, 5) === 0
      const before = becomesCode()
      report({ before, answer: [libc.sealAgainstWritableCode(), libc.sealAgainstWritableCode()], after: becomesCode() })`
    const outcome = runNode(code, ['--jitless']) as { answer: string[] }
    if (outcome.answer[0] === 'not sealed: needs Linux 6.3 or newer') {
      console.warn(`skipped: ${outcome.answer[0]}`)
      return skip(outcome.answer[0])
    }
    expect(outcome).toEqual({ before: true, answer: ['sealed', 'sealed'], after: false })
  })
})

describe('lowerWorkerPriority', () => {
  const code = `
    const answer = libc.lowerWorkerPriority(10)
    const nice = (thread) => Number(readFileSync('/proc/self/task/' + thread + '/stat', 'utf8').split(') ').at(-1).split(' ')[16])
    const threads = readdirSync('/proc/self/task').map((thread) =>
      [readFileSync('/proc/self/task/' + thread + '/comm', 'utf8').trim(), nice(thread)])
    report({ answer, main: nice(process.pid),
      workers: threads.filter(([name]) => name === 'libuv-worker').map(([, value]) => value),
      others: threads.filter(([name]) => name !== 'libuv-worker').map(([, value]) => value) })`
  type Threads = { answer: number; main: number; workers: number[]; others: number[] }

  test('the pool steps back, the event loop and V8 stay', () => {
    for (const flags of [[], ['--jitless']]) {
      const threads = runNode(code, flags) as Threads
      expect(threads.answer).toBe(4)
      expect(threads.workers).toEqual([10, 10, 10, 10])
      expect(threads.main).toBe(0)
      expect(new Set(threads.others)).toEqual(new Set([0]))
    }
  })

  test('a pool of another size, without privileges, in a process that is not dumpable', ({ skip }) => {
    skipWithoutOtherUid(skip)
    const threads = runNode(`libc.setNotDumpable()\n${code}`, [], {
      uid: otherUid,
      gid: otherGid,
      env: { UV_THREADPOOL_SIZE: '7' },
    }) as Threads
    expect(threads.answer).toBe(7)
    expect(threads.workers).toEqual(Array(7).fill(10))
  })

  test('only lowers', () => {
    for (const nice of [0, -5, 20, 1.5, Number.NaN])
      expect(() => lowerWorkerPriority(nice)).toThrow(RangeError)
  })
})
