import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, readSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { StartError } from '../../errors.ts'
import { offHeap } from '../../secret.ts'
import { makePipe } from '../libc.ts'
import { type MasterKeyBytes, masterKeyBytes } from '../parse-key.ts'
import {
  type ChildReport,
  decodeReport,
  encodeRequest,
  type RemoteKind,
  type Variable,
} from './child-protocol.ts'
import { longestMs, requestLimits } from './tries.ts'

/** `child.js` when built, `child.ts` from source. */
const childEntry = fileURLToPath(new URL(`./child${extname(import.meta.filename)}`, import.meta.url))

/** Login, read and revocation with all their tries, and the start of Node on a busy host. */
const childMsMax = 3 * longestMs(requestLimits) + 9_000

/** One line, see ChildReport. */
const stderrBytesMax = 8_192

/** How long after its end a child's stderr is waited for, which a process it has started may hold open. */
const outputGraceMs = 500

/**
 * Of the daemon's own environment the child gets what programs and files are found by, what the launcher sets for
 * every process of ours (see bin/launch.sh), and the operator's own certificates. What configures the key service, of
 * which some is secret, goes through its stdin and so never shows in /proc/PID/environ.
 */
const passedOn = ['PATH', 'HOME', 'NODE_EXTRA_CA_CERTS', 'GLIBC_TUNABLES', 'UV_USE_IO_URING', 'LD_BIND_NOW']

export type FetchRequest = {
  readonly kind: RemoteKind
  /** Begins the message of a failure: `AWS KMS`. */
  readonly place: string
  /** Those that are SecretBytes are wiped here. */
  readonly variables: readonly Variable[]
  readonly env: Readonly<Record<string, string | undefined>>
  readonly signal: AbortSignal | undefined
  /** Milliseconds after which the child is killed. Default: long enough for all its requests. */
  readonly timeoutMs?: number
}

export type Fetched = { readonly key: MasterKeyBytes; readonly warning: string | null }

/**
 * Reads a master key by a short-lived child process, the same Node with the same flags, which hands over 32 bytes
 * through a pipe that is read into memory off the V8 heap. Throws StartError; an abort of `signal` kills the child
 * and throws the signal's reason.
 */
export async function fetchKey(request: FetchRequest): Promise<Fetched> {
  const frame = encodeRequest(request.variables)
  for (const [, value] of request.variables) if (typeof value !== 'string') value.wipe()
  try {
    request.signal?.throwIfAborted()
    const { readEnd, writeEnd } = openPipe(request.place)
    try {
      return conclude(request.place, await runChild(request, frame, writeEnd), readEnd)
    } finally {
      closeSync(readEnd)
    }
  } finally {
    frame.fill(0)
  }
}

function openPipe(place: string): ReturnType<typeof makePipe> {
  try {
    return makePipe()
  } catch (error) {
    throw notStarted(place, error)
  }
}

type ChildEnd = {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderr: string
  readonly timedOut: boolean
}

async function runChild(request: FetchRequest, frame: Buffer, writeEnd: number): Promise<ChildEnd> {
  const child = startChild(request, writeEnd)
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    child.kill('SIGKILL')
  }, request.timeoutMs ?? childMsMax)
  const abort = () => child.kill('SIGKILL')
  request.signal?.addEventListener('abort', abort)
  try {
    const stderr = collectStderr(child)
    const ended = childEnd(child)
    child.stdin?.on('error', () => undefined)
    // Not ended: the child takes the end of its input for the end of whoever waits for it.
    child.stdin?.write(frame)
    const { code, signal } = await ended.catch((error: unknown) => {
      throw notStarted(request.place, error)
    })
    request.signal?.throwIfAborted()
    return { code, signal, stderr: await stderr, timedOut }
  } finally {
    clearTimeout(timer)
    request.signal?.removeEventListener('abort', abort)
    child.stdin?.destroy()
    child.stderr?.destroy()
  }
}

function startChild({ kind, place, env }: FetchRequest, writeEnd: number): ChildProcess {
  const childEnv: Record<string, string> = { NODE_NO_WARNINGS: '1' }
  for (const name of passedOn) {
    const value = env[name]
    if (value !== undefined) childEnv[name] = value
  }
  try {
    // A debugger of the daemon is not one of the process that has the key.
    const flags = process.execArgv.filter((flag) => !flag.startsWith('--inspect'))
    return spawn(process.execPath, [...flags, childEntry, kind], {
      env: childEnv,
      stdio: ['pipe', writeEnd, 'pipe'],
    })
  } catch (error) {
    throw notStarted(place, error)
  } finally {
    closeSync(writeEnd)
  }
}

function childEnd(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve({ code, signal }))
  })
}

/** What the child writes to stderr, bounded; whole at its end, or shortly after its exit. */
function collectStderr(child: ChildProcess): Promise<string> {
  let text = ''
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    if (text.length < stderrBytesMax) text += chunk
  })
  return new Promise((resolve) => {
    child.once('close', () => resolve(text))
    child.once('exit', () => setTimeout(() => resolve(text), outputGraceMs).unref())
  })
}

function conclude(place: string, end: ChildEnd, readEnd: number): Fetched {
  const report = decodeReport(end.stderr)
  if (end.code === 0) {
    const key = readKeyBytes(readEnd)
    if (key !== null) return { key, warning: warningOf(report) }
  }
  if (report !== null && 'reason' in report && end.code !== 0) {
    throw failing(place, report.exit, report.reason, report.hint)
  }
  if (end.timedOut) throw failing(place, 'masterKey', 'it took too long', 'see whether this host reaches it')
  const how = end.signal === null ? `exit ${end.code}` : `${end.signal}`
  throw failing(
    place,
    'masterKey',
    `the process that reads the key ended without one (${how})`,
    'start again, and report this if it stays so',
  )
}

function warningOf(report: ChildReport | null): string | null {
  return report !== null && 'warning' in report ? report.warning : null
}

/** The 32 bytes that lie in the pipe, or null where it holds anything else. */
function readKeyBytes(readEnd: number): MasterKeyBytes | null {
  const key = offHeap(masterKeyBytes)
  const more = offHeap(1)
  if (readAvailable(readEnd, key) === masterKeyBytes && readAvailable(readEnd, more) === 0) return key
  key.fill(0)
  more.fill(0)
  return null
}

/** Bytes read; 0 at the end, and where nothing is there though somebody holds the other end still. */
function readAvailable(fd: number, into: Buffer): number {
  try {
    return readSync(fd, into, 0, into.length, null)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return 0
    throw error
  }
}

function failing(place: string, exit: 'masterKey' | 'config', reason: string, hint: string): StartError {
  return new StartError(exit, `no master key from ${place}: ${reason}`, hint)
}

function notStarted(place: string, cause: unknown): StartError {
  const { code } = cause as NodeJS.ErrnoException
  return new StartError(
    'masterKey',
    `no master key from ${place}: the process that reads it cannot be started (${code})`,
    'let purserd start its own Node: see NoExecPaths, TasksMax and the limits of its unit',
    cause,
  )
}
