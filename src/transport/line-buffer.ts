import { offHeap } from '../secret.ts'

/** Longest line without its newline; protocol section 1. */
export const lineBytesMax = 65_536

/** Room beyond this is given back once less than a quarter of it is in use. */
const roomBytesMax = 4096
const newline = 0x0a

/**
 * Bytes of a connection that are not used up yet. Where a chunk holds whole lines they are taken straight out of it;
 * only what is left over is copied, off the heap, and wiped once taken.
 */
export class LineBuffer {
  /** What came before, and how much of it is filled. Holds at most one line and one chunk. */
  #kept: Buffer | null = null
  #keptLength = 0
  #chunk: Buffer | null = null
  /** Where the next line starts, in #kept if there is one, else in #chunk. */
  #start = 0
  /** How far the line is known to be blank, and to hold no newline: one in small pieces is not searched over again. */
  #blank = 0
  #searched = 0

  get length(): number {
    return this.#current().length - this.#start
  }

  /** Adds a chunk, which is not copied before `compact`. */
  push(chunk: Buffer): void {
    if (this.#kept === null) this.#chunk = chunk
    else this.#append(chunk)
  }

  /**
   * The next line that is not blank, as a view to use and wipe at once; null if none is complete, `too-long` if it
   * is longer than a line may be, `later` if it is longer than `lengthMax`.
   */
  take(lengthMax: number): Buffer | 'too-long' | 'later' | null {
    const bytes = this.#current()
    let at = Math.max(this.#start, this.#blank)
    // Byte by byte, so that a flood of blank lines does not cost a search and a view each.
    for (; isBlank(bytes[at]); at++) {
      if (at - this.#start > lineBytesMax) return 'too-long'
      if (bytes[at] === newline) this.#start = at + 1
    }
    this.#blank = at
    const end = bytes.indexOf(newline, Math.max(at, this.#searched))
    this.#searched = end === -1 ? bytes.length : end
    const length = this.#searched - this.#start
    if (length > lineBytesMax) return 'too-long'
    if (end === -1) return null
    if (length > lengthMax) return 'later'
    const line = bytes.subarray(this.#start, end)
    this.#start = end + 1
    return line
  }

  /** Copies what is left of the chunk; call before the chunk's memory is used again. */
  compact(): void {
    const rest = this.#current().subarray(this.#start)
    const kept = this.#kept
    if (rest.length === 0) {
      this.clear()
      return
    }
    if (kept === null || (kept.length > roomBytesMax && rest.length < kept.length / 4 && this.#start > 0)) {
      this.#chunk = null
      this.#kept = offHeap(Math.max(512, rest.length))
      rest.copy(this.#kept)
      kept?.fill(0)
    } else if (this.#start > 0) {
      kept.copyWithin(0, this.#start, this.#keptLength)
      kept.fill(0, rest.length, this.#keptLength)
    }
    this.#keptLength = rest.length
    this.#searched = Math.max(0, this.#searched - this.#start)
    this.#blank = Math.max(0, this.#blank - this.#start)
    this.#start = 0
  }

  /** Wipes and drops everything. */
  clear(): void {
    this.#kept?.fill(0)
    this.#kept = null
    this.#chunk = null
    this.#keptLength = 0
    this.#start = 0
    this.#blank = 0
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

/** JSON's white space, newlines too. */
function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === newline || byte === 0x0d || byte === 0x09
}

const nothing = Buffer.alloc(0)
