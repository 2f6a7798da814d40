import { randomInt } from 'node:crypto'

/** fast-check prints it when a property fails, the other tests name it; PURSER_TEST_SEED runs the same values again. */
export const seed = Number(process.env['PURSER_TEST_SEED'] ?? randomInt(2 ** 31))

/** Runs of a random test: PURSER_TEST_RUNS times as many as `usual`. */
export function runs(usual: number): number {
  return Math.ceil(usual * Number(process.env['PURSER_TEST_RUNS'] ?? 1))
}

/** How much longer a test may take when it runs more often, milliseconds. */
export const timeoutMs = 120_000 * Math.max(1, Number(process.env['PURSER_TEST_RUNS'] ?? 1))

/** A small seeded generator (mulberry32): millions of numbers a second, the same ones for the same seed. */
export class Random {
  #state: number

  constructor(from: number) {
    this.#state = from | 0
  }

  /** 0 <= n < `below`. */
  int(below: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below)
  }

  /** min <= n <= max. */
  between(min: number, max: number): number {
    return min + this.int(max - min + 1)
  }

  pick<T>(from: readonly T[]): T {
    return from[this.int(from.length)]!
  }
}
