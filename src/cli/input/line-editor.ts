import { offHeap } from '../../secret.ts'

/** What a fed byte led to. `submit`: the line is complete; `cancel`: Ctrl-C, Ctrl-\ or Ctrl-D on an empty line. */
export type EditorState = 'editing' | 'submit' | 'cancel' | 'too-long'

const byte = {
  ctrlC: 0x03,
  ctrlD: 0x04,
  backspace: 0x08,
  lineFeed: 0x0a,
  carriageReturn: 0x0d,
  ctrlU: 0x15,
  ctrlW: 0x17,
  escape: 0x1b,
  ctrlBackslash: 0x1c,
  space: 0x20,
  delete: 0x7f,
} as const

type EscapeState = 'none' | 'escape' | 'sequence' | 'function-key'

/**
 * One line typed or pasted on a terminal in raw mode, kept in an off-heap buffer that wipe() clears. Cursor keys and the
 * marks of a bracketed paste are swallowed; backspace takes a whole UTF-8 character, Ctrl-U and Ctrl-W the line.
 */
export class LineEditor {
  readonly #bytes: Buffer
  #length = 0
  #escape: EscapeState = 'none'

  /** `maxBytes` bounds the line; one byte more is `too-long`. */
  constructor(maxBytes: number) {
    this.#bytes = offHeap(maxBytes)
  }

  /** Characters (not bytes) in the line, for an echo. */
  get characters(): number {
    let count = 0
    for (let index = 0; index < this.#length; index++) if (!isContinuation(this.#bytes[index])) count += 1
    return count
  }

  feed(value: number): EditorState {
    if (this.#escape !== 'none') return this.#swallow(value)
    switch (value) {
      case byte.lineFeed:
      case byte.carriageReturn:
        return 'submit'
      case byte.ctrlC:
      case byte.ctrlBackslash:
        return 'cancel'
      case byte.ctrlD:
        return this.#length === 0 ? 'cancel' : 'submit'
      case byte.backspace:
      case byte.delete:
        this.#removeCharacter()
        return 'editing'
      case byte.ctrlU:
      case byte.ctrlW:
        this.wipe()
        return 'editing'
      case byte.escape:
        this.#escape = 'escape'
        return 'editing'
      default:
        return value < byte.space ? 'editing' : this.#append(value)
    }
  }

  /** The line as a string, without white space around it. The buffer stays until wipe(). */
  text(): string {
    return this.#bytes.toString('utf8', 0, this.#length).trim()
  }

  wipe(): void {
    this.#bytes.fill(0)
    this.#length = 0
  }

  #append(value: number): EditorState {
    if (this.#length === this.#bytes.length) return 'too-long'
    this.#bytes[this.#length] = value
    this.#length += 1
    return 'editing'
  }

  #removeCharacter(): void {
    while (this.#length > 0) {
      this.#length -= 1
      const removed = this.#bytes[this.#length]
      this.#bytes[this.#length] = 0
      if (!isContinuation(removed)) return
    }
  }

  /** ESC [ parameters final, ESC O final, or ESC and one byte. */
  #swallow(value: number): EditorState {
    if (value === byte.ctrlC) return 'cancel'
    if (this.#escape === 'escape') {
      this.#escape = value === 0x5b ? 'sequence' : value === 0x4f ? 'function-key' : 'none'
    } else if (this.#escape === 'function-key' || (value >= 0x40 && value <= 0x7e)) {
      this.#escape = 'none'
    }
    return 'editing'
  }
}

function isContinuation(value: number | undefined): boolean {
  return value !== undefined && (value & 0xc0) === 0x80
}
