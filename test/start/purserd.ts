import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, expect } from 'vitest'
import { skipWith } from '../support/skip.ts'

export const root = resolve(import.meta.dirname, '../..')
export const launcher = join(root, 'bin/purserd')

/** Longest wait for a start, a refusal or a stop on a busy machine. */
const waitMs = 20_000

export type ReadyLine = { msg: 'ready'; socket: string; boundary: string; [field: string]: unknown }
export type Ended = { code: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string }

export type PurserdOptions = {
  /** Beside PATH and HOME, which is `directory()`. */
  readonly env?: Readonly<Record<string, string>>
  /** What is run. Default: the launcher of this package. */
  readonly command?: string
  readonly spawn?: Pick<SpawnOptions, 'uid' | 'gid' | 'cwd' | 'detached' | 'stdio'>
}

const running = new Set<Purserd>()
const directories: string[] = []

/** Everything a test has started and made is gone after it, however it went. */
export function cleanUp(): void {
  afterEach(async () => {
    for (const purserd of [...running]) await purserd.stop('SIGKILL')
    for (const made of directories.splice(0)) rmSync(made, { recursive: true, force: true })
  })
  process.on('exit', () => {
    for (const purserd of running) purserd.child.kill('SIGKILL')
  })
}

/** A new temporary directory of the test, mode 0700, removed after it. */
export function temporaryDirectory(): string {
  const made = mkdtempSync(join(tmpdir(), 'purser-start-'))
  directories.push(made)
  return made
}

/** Writes a master key file in `directory`, 0600. */
export function keyFile(directory: string, key: Buffer = randomBytes(32), name = 'a.key'): string {
  const path = join(directory, name)
  writeFileSync(path, `${key.toString('base64')}\n`, { mode: 0o600 })
  return path
}

/** purserd as a user starts it: the launcher, arguments and an environment of nothing else. */
export class Purserd {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  stdout = ''
  stderr = ''
  #onOutput: () => void = () => {}

  constructor(args: readonly string[], home: string, options: PurserdOptions = {}) {
    const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: home, ...options.env }
    this.child = spawn(options.command ?? launcher, args, {
      cwd: home,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...options.spawn,
      env,
    })
    running.add(this)
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
      this.#onOutput()
    })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.ended = new Promise((done, failed) => {
      this.child.once('error', failed)
      this.child.once('close', (code, signal) => {
        running.delete(this)
        done({ code, signal, stdout: this.stdout, stderr: this.stderr })
        this.#onOutput()
      })
    })
  }

  get pid(): number {
    return this.child.pid!
  }

  /** The lines of its log so far. */
  get log(): { level: number; msg: string; [field: string]: unknown }[] {
    return this.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  }

  /** Resolves with the ready line; throws with what it printed where it ends first. */
  async ready(): Promise<ReadyLine> {
    const until = performance.now() + waitMs
    for (;;) {
      const line = this.stdout.split('\n').find((text) => text.includes('"msg":"ready"'))
      if (line !== undefined) return JSON.parse(line) as ReadyLine
      const left = until - performance.now()
      if (left <= 0 || !running.has(this)) {
        throw new Error(`purserd was not ready: ${this.stdout}${this.stderr}`)
      }
      await new Promise<void>((wake) => {
        const timer = setTimeout(wake, left)
        this.#onOutput = () => {
          clearTimeout(timer)
          wake()
        }
      })
    }
  }

  /** Sends `signal` and waits for the end. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.child.kill(signal)
    return within(this.ended)
  }
}

function within<T>(promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout
  const late = new Promise<never>((_, failed) => {
    timer = setTimeout(() => failed(new Error(`purserd did not end within ${waitMs} ms`)), waitMs)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Starts purserd and waits until it is ready. */
export async function startReady(
  args: readonly string[],
  home: string,
  options: PurserdOptions = {},
): Promise<Purserd> {
  const purserd = new Purserd(args, home, options)
  await purserd.ready()
  return purserd
}

/** Starts purserd, which must end by itself with `code` and one clear line; answers that line. */
export async function refusal(
  code: number,
  args: readonly string[],
  home: string,
  options: PurserdOptions = {},
): Promise<string> {
  const { stdout, stderr, ...end } = await within(new Purserd(args, home, options).ended)
  expect({ ...end, stderr }).toMatchObject({ code, signal: null })
  expect(stdout).not.toContain('"ready"')
  // What went wrong; what to do. No stack, no class, nothing of Node's own.
  expect(stderr).toMatch(/^purserd: [^\n]{10,}; [^\n]{10,}\n$/)
  expect(stderr).not.toMatch(/\bat .*:\d+|Error:|\[object|undefined|ExperimentalWarning/)
  return stderr.slice('purserd: '.length).trimEnd()
}

/** A second uid, which owns nothing. Skips the test where this process cannot run purserd as it. */
export function otherUid(skip: (note: string) => void): number {
  const uid = 65_534
  const able =
    process.getuid?.() === 0 &&
    spawnSync('test', ['-r', join(root, 'dist/main.js')], { uid, gid: uid }).status === 0
  if (!able) skipWith(skip, 'needs root, and a source tree that another uid can read')
  return uid
}
