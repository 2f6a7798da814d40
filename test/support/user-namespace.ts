import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { readlinkSync, writeFileSync } from 'node:fs'
import type { Answer } from './raw-client.ts'

/** Why this machine cannot put a process into a user namespace; null where it can. */
export function whyNoUserNamespace(): string | null {
  if (process.getuid!() !== 0) return 'only root can map uids into a user namespace'
  const probe = spawnSync('unshare', ['-U', 'nsenter', '--version'])
  return probe.status === 0 ? null : 'unshare(1) or nsenter(1) is missing, or user namespaces are forbidden'
}

/** A user namespace with ids of its own, as a container has one. It lasts as long as the process that holds it. */
export class UserNamespace implements Disposable {
  readonly #holder: ChildProcess

  private constructor(holder: ChildProcess) {
    this.#holder = holder
  }

  /** `map`: lines of `inside outside count`, for uids and gids alike; see user_namespaces(7). */
  static async make(map: string): Promise<UserNamespace> {
    const holder = spawn('unshare', ['-U', 'sleep', '120'], { stdio: 'ignore' })
    const ours = readlinkSync('/proc/self/ns/user')
    for (let tries = 0; readlinkSync(`/proc/${holder.pid}/ns/user`) === ours; tries++) {
      if (tries > 2000) throw new Error('no user namespace came about')
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    writeFileSync(`/proc/${holder.pid}/uid_map`, map)
    writeFileSync(`/proc/${holder.pid}/gid_map`, map)
    return new UserNamespace(holder)
  }

  /** The command that runs `argv` in it with this uid and gid (as they are inside). */
  command(id: number, ...argv: string[]): [program: string, args: string[]] {
    const ids = ['-S', String(id), '-G', String(id)]
    return ['nsenter', ['-t', String(this.#holder.pid), '-U', ...ids, '--', ...argv]]
  }

  /** What the daemon answers to `text` from a process with this id, until the end of the connection. */
  ask(id: number, socketPath: string, text: string): Promise<Answer[]> {
    return askBy(this.command(id, process.execPath, '-e', relay, socketPath), text)
  }

  [Symbol.dispose](): void {
    this.#holder.kill('SIGKILL')
  }
}

/** Sends what it reads to the socket and prints what comes back. */
const relay = `
const socket = require('node:net').connect({ path: process.argv[1], allowHalfOpen: true })
process.stdin.pipe(socket)
socket.pipe(process.stdout)
socket.on('end', () => process.exit())
`

/** The same from a process of another uid and gid in this namespace, without supplementary groups. */
export function askAs(id: number, socketPath: string, text: string): Promise<Answer[]> {
  const become = `process.setgroups([]); process.setgid(${id}); process.setuid(${id});`
  return askBy([process.execPath, ['-e', become + relay, socketPath]], text)
}

async function askBy([program, args]: [string, string[]], text: string): Promise<Answer[]> {
  const child = spawn(program, args, {
    env: { PATH: process.env['PATH'] },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (more) => {
    output += more
  })
  child.stdin.on('error', () => undefined).end(text)
  await new Promise((resolve) => child.on('close', resolve))
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

/** Why the flood of `startFlood` cannot be had here; null where it can. */
export function whyNoFlood(): string | null {
  if (spawnSync('python3', ['-c', 'import socket']).status !== 0) return 'python3 is not there to flood with'
  return whyNoUserNamespace()
}

/**
 * Connects as one uid of the namespace after another, sends what it was given and goes on, with the last 500
 * connections open. Prints how many got in and how many did not.
 */
const flood = `
import collections, os, socket, sys
path, first, count, text = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
seen = collections.Counter()
open_ones = collections.deque()
os.setgroups([])
for uid in range(first, first + count):
    os.setresuid(-1, uid, -1)
    one = socket.socket(socket.AF_UNIX)
    try:
        one.connect(path)
        one.send(text)
        seen['connected'] += 1
        open_ones.append(one)
        if len(open_ones) > 500: open_ones.popleft().close()
    except OSError as error:
        seen['failed'] += 1
    os.setresuid(-1, 0, -1)
print(seen['connected'], seen['failed'])
`

/** A flood under way. */
export type Flood = {
  readonly child: ChildProcess
  /** Resolves at its end with how many connections it got and how many failed. */
  readonly ended: Promise<{ connected: number; failed: number }>
}

/** Has a process of `namespace` connect to the socket as its uids from `first` on, and send `text` on each connection. */
export function startFlood(
  namespace: UserNamespace,
  socketPath: string,
  { first, count, text }: { first: number; count: number; text: string },
): Flood {
  const argv = namespace.command(0, 'python3', '-c', flood, socketPath, String(first), String(count), text)
  const child = spawn(...argv, { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (more) => {
    output += more
  })
  const ended = new Promise<{ connected: number; failed: number }>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', () => {
      const [connected, failed] = output.split(' ').map(Number)
      if (connected === undefined || failed === undefined) reject(new Error(`the flood failed: ${output}`))
      else resolve({ connected, failed })
    })
  })
  // One that is killed is not asked for its end.
  ended.catch(() => undefined)
  return { child, ended }
}
