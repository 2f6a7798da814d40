/**
 * As much of a terminal as `purser top` uses: what stands on the alternate screen after a stream of output, and
 * whether the terminal was left as it was found. Throws at a sequence it does not know.
 */
export class Terminal {
  readonly #rows: number
  #lines: string[] = []
  #row = 0
  /** On the alternate screen now; how often it was entered. */
  alternate = false
  entered = 0
  cursorShown = true
  wraps = true
  /** What was written while the alternate screen was not shown. */
  outside = ''
  /** What stood on the alternate screen before it was emptied to be left. */
  last: readonly string[] = []

  constructor(rows: number) {
    this.#rows = rows
  }

  get lines(): readonly string[] {
    return Array.from({ length: this.#rows }, (_line, row) => this.#lines[row] ?? '')
  }

  write(output: string): void {
    for (const [index, piece] of output.split('\x1b').entries()) {
      if (index === 0) {
        this.#print(piece)
        continue
      }
      const [sequence = '', parameters = '', final = ''] = /^\[(\??[\d;]*)([A-Za-z])/.exec(piece) ?? []
      this.#control(`${parameters}${final}`)
      this.#print(piece.slice(sequence.length))
    }
  }

  #print(text: string): void {
    if (this.alternate) this.#lines[this.#row] = (this.#lines[this.#row] ?? '') + text
    else this.outside += text
  }

  #control(sequence: string): void {
    const place = /^(\d+);1H$/.exec(sequence)
    if (place !== null) this.#row = Number(place[1]) - 1
    else if (sequence === 'H') this.#row = 0
    else if (sequence === '2K') this.#lines[this.#row] = ''
    else if (sequence === 'J') {
      this.last = this.lines
      this.#lines.splice(this.#row)
    } else if (sequence === '?1049h') this.#enter()
    else if (sequence === '?1049l') this.alternate = false
    else if (sequence === '?25h' || sequence === '?25l') this.cursorShown = sequence === '?25h'
    else if (sequence === '?7h' || sequence === '?7l') this.wraps = sequence === '?7h'
    else if (!/^\d+m$/.test(sequence)) throw new Error(`unknown sequence ${JSON.stringify(sequence)}`)
  }

  #enter(): void {
    if (!this.alternate) this.#lines = []
    this.alternate = true
    this.entered += 1
  }
}
