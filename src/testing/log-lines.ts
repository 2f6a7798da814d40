/** A daemon at trace level for minutes; older lines are dropped beyond it. */
const linesMax = 20_000

/** Longer lines are cut: a daemon's own are far shorter. */
const lineCharsMax = 16_384

/** The last lines of what a process printed, cut out of its streams. Bounded, however much it prints. */
export class LogLines {
  #lines: string[] = []

  /** Takes one stream's text (empty lines are left out); each stream of a process gets a function of its own. */
  stream(onLine: (line: string) => void = () => {}): (text: string) => void {
    let rest = ''
    return (text) => {
      const parts = (rest + text).split('\n')
      rest = (parts.pop() ?? '').slice(0, lineCharsMax)
      for (const part of parts) {
        if (part === '') continue
        const line = part.slice(0, lineCharsMax)
        this.#keep(line)
        onLine(line)
      }
    }
  }

  all(): readonly string[] {
    return [...this.#lines]
  }

  last(count: number): readonly string[] {
    return this.#lines.slice(-count)
  }

  #keep(line: string): void {
    this.#lines.push(line)
    // Dropped by halves, so that a full log does not cost a copy a line.
    if (this.#lines.length > linesMax) this.#lines = this.#lines.slice(linesMax / 2)
  }
}
