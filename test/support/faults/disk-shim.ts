import { execFileSync } from 'node:child_process'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readSync,
  realpathSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const source = fileURLToPath(new URL('./disk-shim.c', import.meta.url))

/** Where the daemon's calls can be made to fail; the order is that of disk-shim.c. */
const kinds = ['write', 'sync', 'read'] as const
const files = { any: 0, database: 1, wal: 2 } as const
/** Six 32-bit integers a kind: error, skip, times, suffix, torn, fired. */
const faultBytes = 24

export const errnos = { EPERM: 1, EIO: 5, ENOSPC: 28 } as const

export type Fault = {
  readonly error: keyof typeof errnos
  /** Calls that still succeed. */
  readonly skip?: number
  /** Calls that fail then; all by default. */
  readonly times?: number
  readonly file?: keyof typeof files
  /** Write half of it before the first call that fails. */
  readonly torn?: boolean
}

/** A library that stands between a daemon and its disk; see disk-shim.c. Compiled with `cc` for one test file. */
export class DiskShim {
  readonly #directory: string
  readonly #library: string
  #count = 0

  private constructor(directory: string) {
    this.#directory = directory
    this.#library = join(directory, 'disk-shim.so')
    execFileSync('cc', ['-O2', '-shared', '-fPIC', '-o', this.#library, source, '-ldl', '-lpthread'], {
      stdio: 'pipe',
    })
  }

  /** The shim, or why it cannot be made here. */
  static build(): DiskShim | string {
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'purser-shim-'))
    try {
      return new DiskShim(directory)
    } catch (error) {
      rmSync(directory, { recursive: true })
      return `no C compiler that makes a shared library: ${String(error).split('\n', 1)[0]}`
    }
  }

  /** Variables that put the shim before a daemon on `dataDirectory`, and what steers it. */
  around(dataDirectory: string): { env: Record<string, string>; control: FaultControl; logPath: string } {
    const path = join(this.#directory, `run-${++this.#count}`)
    const control = new FaultControl(`${path}.control`)
    const env = {
      LD_PRELOAD: this.#library,
      FAULTS_DIRECTORY: realpathSync(dataDirectory),
      FAULTS_CONTROL: `${path}.control`,
      FAULTS_LOG: `${path}.log`,
    }
    return { env, control, logPath: `${path}.log` }
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

/** The page of memory shared with a daemon that says which of its calls fail. */
export class FaultControl {
  readonly #fd: number

  constructor(path: string) {
    writeFileSync(path, Buffer.alloc(faultBytes * kinds.length))
    this.#fd = openSync(path, 'r+')
  }

  /** From now on calls of this kind fail as `fault` says; null: they work again. */
  set(kind: (typeof kinds)[number], fault: Fault | null): void {
    const base = kinds.indexOf(kind) * faultBytes
    // Disarmed while it is changed, and armed by the last write.
    this.#put(base, [0])
    if (fault === null) return
    this.#put(base + 4, [
      fault.skip ?? 0,
      fault.times ?? -1,
      files[fault.file ?? 'any'],
      fault.torn ? 1 : 0,
      0,
    ])
    this.#put(base, [errnos[fault.error]])
  }

  /** How many calls of this kind have failed since `set`. */
  fired(kind: (typeof kinds)[number]): number {
    const value = Buffer.alloc(4)
    readSync(this.#fd, value, 0, 4, kinds.indexOf(kind) * faultBytes + 20)
    return value.readInt32LE()
  }

  close(): void {
    closeSync(this.#fd)
  }

  #put(position: number, values: readonly number[]): void {
    const bytes = Buffer.alloc(4 * values.length)
    for (const [index, value] of values.entries()) bytes.writeInt32LE(value, 4 * index)
    writeSync(this.#fd, bytes, 0, bytes.length, position)
  }
}
