import { offHeap } from '../secret.ts'

/** Longest line without its newline; protocol section 1. */
export const lineBytesMax = 65_536

/**
 * Bytes of a connection that are not used up yet. Where a chunk holds whole lines they are taken straight out of it;
 * only what is left over is copied, off the heap, and wiped once taken.
 */
export class LineBuffer {
  /** What came before, and how much of it is filled. Holds at most one line and one chunk. */
  #kept: Buffer | null = null
  #keptLength = 0
  /** Where the next line starts, in #kept if there is one, else in #chunk. */
  #start = 0
  /** How far #kept was searched for a newline, so that a line in small pieces is not searched again from its start. */
  #searched = 0
  #chunk: Buffer | null = null

  get length(): number {
    return this.#current().length - this.#start
  }

  /** Adds a chunk, which is not copied before `compact`. */
  push(chunk: Buffer): void {
    if (this.#kept === null) {
      this.#chunk = chunk
      this.#start = 0
      this.#searched = 0
    } else this.#append(chunk)
  }

  /** The next line, as a view to use and wipe at once; null if none is complete, `too-long` if it cannot become one. */
  take(newline: number): Buffer | 'too-long' | null {
    const bytes = this.#current()
    const end = bytes.indexOf(newline, Math.max(this.#start, this.#searched))
    if (end === -1) {
      this.#searched = bytes.length
      return bytes.length - this.#start > lineBytesMax ? 'too-long' : null
    }
    if (end - this.#start > lineBytesMax) return 'too-long'
    const line = bytes.subarray(this.#start, end)
    this.#start = end + 1
    return line
  }

  /** Copies what is left of the chunk; call before the chunk's memory is used again. */
  compact(): void {
    const rest = this.#current().subarray(this.#start)
    if (rest.length === 0) {
      this.clear()
      return
    }
    if (this.#chunk !== null) {
      this.#chunk = null
      this.#kept = offHeap(Math.max(512, rest.length))
      this.#keptLength = rest.copy(this.#kept)
    } else if (this.#start > 0) {
      const kept = this.#kept!
      kept.copyWithin(0, this.#start, this.#keptLength)
      kept.fill(0, rest.length, this.#keptLength)
      this.#keptLength = rest.length
    }
    this.#searched = Math.max(0, this.#searched - this.#start)
    this.#start = 0
  }

  /** Wipes and drops everything. */
  clear(): void {
    this.#kept?.fill(0)
    this.#kept = null
    this.#chunk = null
    this.#keptLength = 0
    this.#start = 0
    this.#searched = 0
  }

  #append(chunk: Buffer): void {
    const kept = this.#kept!
    const length = this.#keptLength + chunk.length
    if (length > kept.length) {
      // Doubled, but not far beyond what one line can need: a thousand connections may each hold half a line.
      const larger = offHeap(Math.max(length, Math.min(2 * kept.length, lineBytesMax + 1)))
      kept.copy(larger, 0, 0, this.#keptLength)
      kept.fill(0)
      this.#kept = larger
    }
    chunk.copy(this.#kept!, this.#keptLength)
    this.#keptLength = length
  }

  #current(): Buffer {
    return this.#kept !== null ? this.#kept.subarray(0, this.#keptLength) : (this.#chunk ?? nothing)
  }
}

const nothing = Buffer.alloc(0)
