/**
 * What the daemon needs of libc and Node does not offer: the identity of a peer, descriptors, and the locks a
 * process puts on itself. The only file that calls foreign functions. Numbers are those of Linux on x64 and arm64,
 * which agree on every one used here; there is no raw syscall(2), whose numbers do not.
 */

import { readdirSync, readFileSync, stat } from 'node:fs'
import { setPriority } from 'node:os'
import koffi from 'koffi'

const libc = koffi.load('libc.so.6')

/**
 * fcntl and prctl are variadic in C; on both ABIs of Linux a call with integers is passed alike either way.
 * Buffers go by address (`void *`), so the kernel reads and writes their own memory and nothing is copied.
 */
const native = {
  getsockopt: libc.func('int getsockopt(int, int, int, void *, void *)'),
  getsockname: libc.func('int getsockname(int, void *, void *)'),
  socket: libc.func('int socket(int, int, int)'),
  sendto: libc.func('long sendto(int, void *, size_t, int, void *, uint32_t)'),
  close: libc.func('int close(int)'),
  accept4: libc.func('int accept4(int, void *, void *, int)'),
  send: libc.func('long send(int, void *, size_t, int)'),
  recv: libc.func('long recv(int, void *, size_t, int)'),
  poll: libc.func('int poll(void *, unsigned long, int)'),
  fcntl: libc.func('int fcntl(int, int, long)'),
  getrlimit: libc.func('int getrlimit(int, void *)'),
  setrlimit: libc.func('int setrlimit(int, void *)'),
  mlockall: libc.func('int mlockall(int)'),
  munlockall: libc.func('int munlockall()'),
  prctl: libc.func('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)'),
}

/** A libc call the kernel refused. `code` is the errno's name (`EBADF`), `call` the function's. */
export class LibcError extends Error {
  override readonly name = 'LibcError'
  readonly code: string
  readonly call: string

  constructor(call: string, code: string, what: string) {
    super(`${what}: ${call} failed with ${code}`)
    this.call = call
    this.code = code
  }
}

/** Made right after the call: whatever runs between, the collector of V8 included, may change errno. */
function libcError(call: string, what: string): LibcError {
  return new LibcError(call, errnoName(koffi.errno()), what)
}

function errnoName(errno: number): string {
  const entry = Object.entries(koffi.os.errno).find(([, number]) => number === errno)
  return entry?.[0] ?? `errno ${errno}`
}

// ---- sockets

const AF_UNIX = 1
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SOCK_NONBLOCK = 0o4000
const MSG_PEEK = 0x2
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const SOL_SOCKET = 1
const SO_TYPE = 3
const SO_PEERCRED = 17
const SO_ACCEPTCONN = 30
const SO_DOMAIN = 39
const SO_PEERGROUPS = 59
const SO_PEERPIDFD = 77
const POLLIN = 1

/** `sun_path` of sockaddr_un, in bytes. */
const socketPathBytesMax = 108
const familyBytes = 2
const idBytes = 4

/** Who connected, as the kernel recorded it at connect(2). `pid` is 0 where the peer's pid namespace is hidden. */
export type PeerCredentials = { readonly pid: number; readonly uid: number; readonly gid: number }

/**
 * Reads a socket option into `value`. Answers how many bytes the kernel wrote (or, under ERANGE, would have) and
 * what it refused with.
 */
function readOption(
  fd: number,
  option: number,
  value: Buffer,
  what: string,
): { length: number; refused: LibcError | null } {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(value.length)
  const result: number = native.getsockopt(fd, SOL_SOCKET, option, value, length)
  const refused = result === 0 ? null : libcError('getsockopt', what)
  return { length: length.readUInt32LE(), refused }
}

/**
 * uid, gid and pid of the process that connected to `fd`, a connected Unix stream socket.
 * Throws LibcError: EBADF, ENOTSOCK, or ENODATA where the kernel holds no credentials (not a Unix socket).
 */
export function peerCredentials(fd: number): PeerCredentials {
  const value = Buffer.alloc(3 * idBytes)
  const { refused } = readOption(fd, SO_PEERCRED, value, 'peer credentials')
  if (refused) throw refused
  const credentials = { pid: value.readInt32LE(0), uid: value.readUInt32LE(4), gid: value.readUInt32LE(8) }
  // Other families answer success with uid and gid -1. Nobody must ever be taken for that id.
  if (credentials.uid === 0xffffffff || credentials.gid === 0xffffffff) {
    throw new LibcError('getsockopt', 'ENODATA', 'peer credentials')
  }
  return credentials
}

/** Most processes have fewer; the kernel says how many it has where this is too small. */
const groupsGuess = 64
/** NGROUPS_MAX of Linux: no process has more supplementary groups. */
const groupsMax = 65536

/**
 * Supplementary groups of the process that connected to `fd`, as they were at connect(2); the primary
 * group is in peerCredentials. Empty where the kernel cannot tell (ENOPROTOOPT): nobody has a group it did not show.
 * Throws LibcError like that.
 */
export function peerGroups(fd: number): number[] {
  let value = Buffer.alloc(groupsGuess * idBytes)
  let answer = readOption(fd, SO_PEERGROUPS, value, 'peer groups')
  if (answer.refused?.code === 'ERANGE' && answer.length <= groupsMax * idBytes) {
    value = Buffer.alloc(answer.length)
    answer = readOption(fd, SO_PEERGROUPS, value, 'peer groups')
  }
  if (answer.refused?.code === 'ENOPROTOOPT') return []
  if (answer.refused) throw answer.refused
  return Array.from({ length: answer.length / idBytes }, (_, index) => value.readUInt32LE(index * idBytes))
}

/**
 * A pidfd of the process that connected to `fd`, which the caller closes: it never comes to mean another process, as a
 * pid does. `'gone'` where that process has been reaped, null where the kernel has no such thing (before Linux 6.5).
 */
export function peerPidfd(fd: number): number | 'gone' | null {
  const value = Buffer.alloc(4)
  const { refused } = readOption(fd, SO_PEERPIDFD, value, 'process of a peer')
  if (refused === null) return value.readInt32LE()
  return refused.code === 'ENOPROTOOPT' ? null : 'gone'
}

/** Whether the process of `pidfd` has not exited. */
export function isRunning(pidfd: number): boolean {
  const pollfd = Buffer.alloc(8)
  pollfd.writeInt32LE(pidfd)
  pollfd.writeInt16LE(POLLIN, 4)
  // It becomes readable at exit; an error tells nothing, and what is not known to run is taken for gone.
  return native.poll(pollfd, 1, 0) === 0
}

/**
 * Accepts one more connection from `listeningFd`, a socket that does not block. null where none waits, or none can be
 * had now. What node:net accepts is one for each turn of the event loop.
 */
export function acceptConnection(listeningFd: number): number | null {
  const fd: number = native.accept4(listeningFd, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK)
  return fd < 0 ? null : fd
}

const peeked = Buffer.alloc(1)

/** Whether the peer of `fd`, a connected stream socket, has ended its side and left nothing to read. */
export function hasEnded(fd: number): boolean {
  const length = Number(native.recv(fd, peeked, peeked.length, MSG_PEEK | MSG_DONTWAIT))
  peeked.fill(0)
  return length === 0
}

/** Gives the kernel `bytes` for the peer of `fd`, if it takes them at once, and closes `fd`. */
export function sendAndClose(fd: number, bytes: Uint8Array): void {
  native.send(fd, bytes, bytes.length, MSG_NOSIGNAL | MSG_DONTWAIT)
  native.close(fd)
}

/** Whether `fd` is a Unix stream socket that listens. False for any other descriptor, an open or a closed one. */
export function isListeningUnixSocket(fd: number): boolean {
  const value = Buffer.alloc(4)
  const is = (option: number, wanted: number): boolean =>
    readOption(fd, option, value, 'kind of a socket').refused === null && value.readInt32LE() === wanted
  return is(SO_DOMAIN, AF_UNIX) && is(SO_TYPE, SOCK_STREAM) && is(SO_ACCEPTCONN, 1)
}

/** The path a Unix socket is bound to; `@name` for an abstract one, empty for an unnamed one. Throws LibcError. */
export function boundSocketPath(fd: number): string {
  const address = Buffer.alloc(familyBytes + socketPathBytesMax)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(address.length)
  if (native.getsockname(fd, address, length) !== 0) throw libcError('getsockname', 'path of a socket')
  // A path that fills sun_path has no NUL, and the kernel reports one byte more than it wrote.
  const path = address.subarray(familyBytes, Math.min(length.readUInt32LE(), address.length))
  if (path.length === 0) return ''
  if (path[0] === 0) return `@${path.toString('utf8', 1)}`
  const end = path.indexOf(0)
  return path.toString('utf8', 0, end === -1 ? path.length : end)
}

function unixAddress(path: string): Buffer {
  const name = Buffer.from(path)
  const abstract = path.startsWith('@')
  if (!abstract && !path.startsWith('/')) {
    throw new LibcError('sendto', 'EAFNOSUPPORT', 'socket address is neither a path nor abstract')
  }
  // A path ends in NUL, which counts; an abstract name starts with NUL, in place of the @, and ends with its length.
  const address = Buffer.alloc(familyBytes + name.length + (abstract ? 0 : 1))
  if (address.length > familyBytes + socketPathBytesMax) {
    throw new LibcError('sendto', 'ENAMETOOLONG', 'socket address')
  }
  address.writeUInt16LE(AF_UNIX)
  name.copy(address, familyBytes)
  if (abstract) address[familyBytes] = 0
  return address
}

/**
 * Sends one datagram to the Unix datagram socket at `path` (absolute, or `@name` for an abstract one). Never waits:
 * a receiver whose queue is full is LibcError EAGAIN, one that is gone ENOENT or ECONNREFUSED.
 */
export function sendDatagram(path: string, bytes: Uint8Array): void {
  const address = unixAddress(path)
  const fd: number = native.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  if (fd < 0) throw libcError('socket', 'datagram')
  try {
    const flags = MSG_NOSIGNAL | MSG_DONTWAIT
    const sent = Number(native.sendto(fd, bytes, bytes.length, flags, address, address.length))
    if (sent !== bytes.length) throw libcError('sendto', 'datagram')
  } finally {
    native.close(fd)
  }
}

// ---- descriptors

const F_SETFD = 2
const F_DUPFD_CLOEXEC = 1030
const FD_CLOEXEC = 1
/** A copy never lands on stdin, stdout or stderr, even where one of them is closed. */
const firstFreeFd = 3

/** A new descriptor for what `fd` is open on, closed on exec; the caller closes it. Throws LibcError: EBADF, EMFILE. */
export function duplicateFd(fd: number): number {
  const copy: number = native.fcntl(fd, F_DUPFD_CLOEXEC, firstFreeFd)
  if (copy < 0) throw libcError('fcntl', 'copy of a descriptor')
  return copy
}

/** Closes `fd`, which must be the caller's own. */
export function closeFd(fd: number): void {
  native.close(fd)
}

/** Keeps `fd` from every program this process starts. Throws LibcError: EBADF. */
export function setCloseOnExec(fd: number): void {
  if (native.fcntl(fd, F_SETFD, FD_CLOEXEC) !== 0) throw libcError('fcntl', 'close on exec')
}

// ---- locks a process puts on itself

const PR_SET_DUMPABLE = 4
const PR_SET_MDWE = 65
const PR_MDWE_REFUSE_EXEC_GAIN = 1
const RLIMIT_CORE = 4
const RLIMIT_MEMLOCK = 8
const RLIM_INFINITY = 0xffffffffffffffffn
const MCL_CURRENT = 1
const MCL_FUTURE = 2
const MCL_ONFAULT = 4
/** As they are touched: all that is mapped would be more than 150 MiB. */
const lockFlags = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT
/** What lockMemory last answered. */
let isLocked = false
const capIpcLockBit = 14n

/**
 * Other processes of the same uid can no longer read this one's memory, environment and descriptors, nor does it
 * dump core. execve(2) takes it back, so it is done here and not by who starts the daemon. Throws LibcError.
 */
export function setNotDumpable(): void {
  if (native.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) !== 0) throw libcError('prctl', 'not dumpable')
}

function readLimit(resource: number): { soft: bigint; hard: bigint } {
  const limit = Buffer.alloc(16)
  if (native.getrlimit(resource, limit) !== 0) throw libcError('getrlimit', 'resource limit')
  return { soft: limit.readBigUInt64LE(0), hard: limit.readBigUInt64LE(8) }
}

/** Core files are 0 bytes for this process and all it starts; it cannot be taken back. Throws LibcError. */
export function disableCoreDumps(): void {
  // A sandbox may forbid setrlimit; where the limit stands already there is nothing to ask for.
  const { soft, hard } = readLimit(RLIMIT_CORE)
  if (soft === 0n && hard === 0n) return
  if (native.setrlimit(RLIMIT_CORE, Buffer.alloc(16)) !== 0) throw libcError('setrlimit', 'no core dumps')
}

/**
 * Whether V8 makes no machine code at run time. The flag alone does not tell (`--no-jitless` may follow it), nor does
 * the lack of WebAssembly alone, which goes with it but can also be deleted: both together do.
 */
function runsJitless(): boolean {
  return process.execArgv.includes('--jitless') && !('WebAssembly' in globalThis)
}

function hasCapIpcLock(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return effective !== undefined && ((BigInt(`0x${effective}`) >> capIpcLockBit) & 1n) === 1n
}

/**
 * Locks all memory of the process, what it will map included, as it is touched: nothing of it reaches swap. Answers
 * `'locked'` or why not; a daemon runs on without, so this never throws.
 */
export function lockMemory(): 'locked' | `not locked: ${string}` {
  // V8 with JIT discards pages of its code range; on a locked one madvise fails and V8 aborts the process.
  if (!runsJitless()) return 'not locked: needs node --jitless'
  try {
    // The limit counts address space, of which V8 reserves some GB. Where it is finite the lock may succeed now
    // and a later mapping fail, which V8 does not survive.
    const { soft } = readLimit(RLIMIT_MEMLOCK)
    if (soft !== RLIM_INFINITY && !hasCapIpcLock()) {
      return `not locked: RLIMIT_MEMLOCK is ${soft} bytes, needs LimitMEMLOCK=infinity or CAP_IPC_LOCK`
    }
    lockAll()
    isLocked = true
    return 'locked'
  } catch (error) {
    return `not locked: ${error instanceof Error ? error.message : 'unknown reason'}`
  }
}

function lockAll(): void {
  if (native.mlockall(lockFlags) !== 0) throw libcError('mlockall', 'memory')
}

/**
 * Runs `work`, which makes V8 give memory back, with nothing locked meanwhile where lockMemory has locked it: the kernel
 * refuses to discard locked pages, and V8 aborts the process then. Throws LibcError where it cannot be locked again.
 */
export function withMemoryUnlocked(work: () => void): void {
  if (!isLocked) {
    work()
    return
  }
  native.munlockall()
  try {
    work()
  } finally {
    lockAll()
  }
}

/**
 * From here on no memory of this process, nor of what it starts, can become executable after it was writable.
 * Answers `'sealed'` or why not; never throws. Children inherit it: a Node child must run with --jitless too.
 */
export function sealAgainstWritableCode(): 'sealed' | `not sealed: ${string}` {
  if (!runsJitless()) return 'not sealed: needs node --jitless'
  if (native.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) === 0) return 'sealed'
  const { code } = libcError('prctl', 'writable code')
  return code === 'EINVAL' ? 'not sealed: needs Linux 6.3 or newer' : `not sealed: prctl failed with ${code}`
}

// ---- threads

/**
 * Gives the threads of libuv's pool, where Argon2 runs, a nice value (1 to 19) of their own, so that the event loop,
 * which stays at 0, gets a core whenever it wants one. Answers how many threads; 0 if none was found.
 * Throws what os.setPriority throws (EACCES, EPERM in a sandbox without setpriority).
 */
export function lowerWorkerPriority(nice: number): number {
  if (!Number.isInteger(nice) || nice < 1 || nice > 19)
    throw new RangeError('nice must be an integer from 1 to 19')
  // The pool starts whole at its first job, and each thread has set its name before that call returns.
  stat('/', () => {})
  const workers = readdirSync('/proc/self/task').filter((thread) => threadName(thread) === 'libuv-worker')
  // On Linux a nice value belongs to a thread: setpriority(2) with PRIO_PROCESS takes a thread id.
  for (const thread of workers) setPriority(Number(thread), nice)
  return workers.length
}

/** Empty for a thread that ended meanwhile. */
function threadName(thread: string): string {
  try {
    return readFileSync(`/proc/self/task/${thread}/comm`, 'utf8').trimEnd()
  } catch {
    return ''
  }
}
