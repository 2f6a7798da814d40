import { isUtf8 } from 'node:buffer'
import { ProtocolError } from './errors.ts'

const newline = 0x0a

/** First size of the buffer for a line that comes in pieces; it doubles from there. */
const firstCapacityBytes = 4096

/**
 * Cuts a byte stream into lines of UTF-8. Bounded: a line over the maximum, invalid UTF-8 and whatever `onLine`
 * throws come out of `push`, after which the reader must not be used again. What is kept between two pushes is
 * copied, so the caller may reuse and wipe the chunk; the copy is wiped once its line is complete.
 */
export class LineReader {
  readonly #maxLineBytes: number
  readonly #onLine: (line: string) => void
  #pending: Buffer = Buffer.alloc(0)
  #pendingBytes = 0

  constructor(maxLineBytes: number, onLine: (line: string) => void) {
    this.#maxLineBytes = maxLineBytes
    this.#onLine = onLine
  }

  /** Bytes of a line that has not ended yet. */
  get pendingBytes(): number {
    return this.#pendingBytes
  }

  push(chunk: Buffer): void {
    let start = 0
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      const segment = chunk.subarray(start, end)
      start = end + 1
      if (this.#pendingBytes === 0) {
        this.#bound(segment.length)
        this.#emit(segment)
      } else {
        this.#keep(segment)
        this.#emitPending()
      }
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
  }

  /** Forgets and wipes an unfinished line. */
  clear(): void {
    this.#pending.fill(0)
    this.#pending = Buffer.alloc(0)
    this.#pendingBytes = 0
  }

  #bound(bytes: number): void {
    if (this.#pendingBytes + bytes > this.#maxLineBytes)
      throw new ProtocolError(`an answer is longer than ${this.#maxLineBytes} bytes`)
  }

  #keep(segment: Buffer): void {
    this.#bound(segment.length)
    const neededBytes = this.#pendingBytes + segment.length
    if (neededBytes > this.#pending.length) {
      const grown = Buffer.allocUnsafeSlow(
        Math.max(firstCapacityBytes, neededBytes, this.#pending.length * 2),
      )
      this.#pending.copy(grown, 0, 0, this.#pendingBytes)
      this.#pending.fill(0)
      this.#pending = grown
    }
    segment.copy(this.#pending, this.#pendingBytes)
    this.#pendingBytes = neededBytes
  }

  #emitPending(): void {
    try {
      this.#emit(this.#pending.subarray(0, this.#pendingBytes))
    } finally {
      this.clear()
    }
  }

  #emit(line: Buffer): void {
    if (!isUtf8(line)) throw new ProtocolError('an answer is not valid UTF-8')
    this.#onLine(line.toString('utf8'))
  }
}
