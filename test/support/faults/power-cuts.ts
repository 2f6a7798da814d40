import { mkdirSync, mkdtempSync, realpathSync, rmSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestPurser } from '../../../src/testing/index.ts'
import { startPurser } from '../../../src/testing/index.ts'
import type { DiskShim, FaultControl } from './disk-shim.ts'
import { problemsOf } from './ledger-check.ts'
import { ActJournal } from './ledger-load.ts'
import type { Random } from './random.ts'
import type { Image, LogRecord, Survival } from './write-log.ts'
import { Disk, readLog, survivals, writeImage } from './write-log.ts'

/** Starts purserd on a store that is set up by SQL statements: see store-purserd.mjs. */
export const storeLauncher: string = fileURLToPath(new URL('./store-purserd', import.meta.url))

/**
 * A daemon behind the disk shim, with a model of its disk: what is left of its store after a power cut can be looked at
 * for every moment of its life. `pragmas` are carried out on the store once it is open.
 */
export class PowerCuts implements AsyncDisposable {
  readonly purser: TestPurser
  readonly control: FaultControl
  readonly journal = new ActJournal()
  /** Everything that was found wrong, in words. */
  readonly problems: string[] = []
  images = 0
  readonly #directory: string
  readonly #logPath: string
  readonly #random: Random
  #disk = new Disk(new Map())
  /** Answers that had left by the moment looked at, by act. */
  readonly #answered = new Map<number, object>()

  private constructor(
    directory: string,
    shimmed: ReturnType<DiskShim['around']>,
    purser: TestPurser,
    random: Random,
  ) {
    this.#directory = directory
    this.#logPath = shimmed.logPath
    this.control = shimmed.control
    this.purser = purser
    this.#random = random
  }

  static async start(shim: DiskShim, random: Random, pragmas: string): Promise<PowerCuts> {
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'purser-power-'))
    const dataDirectory = join(directory, 'data')
    mkdirSync(dataDirectory, { mode: 0o700 })
    const shimmed = shim.around(dataDirectory)
    const env = { ...shimmed.env, STORE_PRAGMAS: pragmas }
    const purser = await startPurser({ fastKdf: true, dataDirectory, launcher: storeLauncher, env })
    return new PowerCuts(directory, shimmed, purser, random)
  }

  /**
   * After a kill: goes through what the daemon did since the last call, and checks what power cuts at `count` random
   * moments would have left, and one at the end.
   */
  check(count: number, survival: Survival | null = null): void {
    const records = readLog(this.#logPath)
    truncateSync(this.#logPath)
    // A store that is still being made may be none: see beforeFirstAnswer().
    const first =
      this.#answered.size > 0
        ? 0
        : Math.max(
            0,
            records.findIndex(({ type }) => type === 'answered'),
          )
    const cuts = new Set(Array.from({ length: count }, () => this.#random.int(first, records.length - 1)))
    const unfinished = new Map<number, string>()
    for (const [index, record] of records.entries()) {
      if (record.type === 'answered') this.#takeAnswers(record, unfinished)
      else this.#disk.apply(record)
      if (cuts.has(index)) this.#checkImage(survival)
    }
    for (const { index, accepted } of this.journal.accepted) this.#answered.set(index, accepted!)
    this.#checkImage(survival)
    this.problems.push(...this.journal.contradictions.splice(0))
  }

  /** What power cuts would have left at each moment before the first answer, in every way. */
  *beforeFirstAnswer(): Generator<{ directory: string; survival: Survival }> {
    const disk = new Disk(new Map())
    for (const record of readLog(this.#logPath)) {
      if (record.type === 'answered') return
      disk.apply(record)
      for (const survival of survivals) {
        const directory = join(this.#directory, 'image')
        writeImage(directory, disk.image(survival, this.#random))
        yield { directory, survival }
      }
    }
  }

  /** The power goes: the daemon, which is not running, finds its store as the cut leaves it. */
  cut(): void {
    const image = this.#disk.image(this.#random.pick(survivals), this.#random)
    writeImage(this.purser.dataDirectory, image)
    this.#disk = new Disk(image)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.purser.stop()
    this.control.close()
    rmSync(this.#directory, { recursive: true })
  }

  #checkImage(survival: Survival | null): void {
    const image: Image = this.#disk.image(survival ?? this.#random.pick(survivals), this.#random)
    const scratch = join(this.#directory, 'image')
    writeImage(scratch, image)
    this.images++
    const claims = this.journal.acts.map((act) => ({ act, accepted: this.#answered.get(act.index) ?? null }))
    this.problems.push(...problemsOf(join(scratch, 'purser.db'), this.purser.masterKey!, claims))
  }

  /** Notes the acts that answers on their way to the kernel accept. */
  #takeAnswers({ file: socket, data }: LogRecord, unfinished: Map<number, string>): void {
    const lines = ((unfinished.get(socket) ?? '') + data.toString()).split('\n')
    unfinished.set(socket, lines.pop()!)
    for (const line of lines) {
      const { id, result } = JSON.parse(line) as { id: string; result?: object }
      const act = /^(\d+)\.\d+$/.exec(id)?.[1]
      if (act === undefined || result === undefined || this.#answered.has(Number(act))) continue
      this.#answered.set(Number(act), result)
    }
  }
}
