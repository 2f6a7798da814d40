import { createPaint, type Paint } from './text/style.ts'

/** Whoever read stdout is gone (`| head`): nothing is left to do, and that is no failure. */
export class OutputClosed extends Error {
  override readonly name = 'OutputClosed'
}

/** stdout: waits for the reader, so that a long list takes bounded memory, and notices when the reader has gone. */
export class Output {
  readonly paint: Paint
  readonly #stream: NodeJS.WriteStream

  constructor(stream: NodeJS.WriteStream, env: Readonly<Record<string, string | undefined>>) {
    this.#stream = stream
    this.paint = createPaint(stream.isTTY === true, env)
    // The callback of write() gets the same error; without a listener the event would end the process first.
    stream.on('error', () => undefined)
  }

  get isTerminal(): boolean {
    return this.#stream.isTTY === true
  }

  /** Columns of the terminal; null where stdout is none, so that nothing is cut for programs. */
  get terminalColumns(): number | null {
    if (!this.isTerminal) return null
    return this.#stream.columns > 0 ? this.#stream.columns : 80
  }

  /** Size of the terminal now; null where stdout is none. 80 by 24 where the terminal does not say. */
  get terminalSize(): { readonly columns: number; readonly rows: number } | null {
    const columns = this.terminalColumns
    return columns === null ? null : { columns, rows: this.#stream.rows > 0 ? this.#stream.rows : 24 }
  }

  /** Calls `listener` whenever the terminal's size has changed, until the answered function is called. */
  onResize(listener: () => void): () => void {
    this.#stream.on('resize', listener)
    return () => void this.#stream.off('resize', listener)
  }

  /** Throws OutputClosed where nobody reads any more, also while there is nothing to write. */
  async checkReader(): Promise<void> {
    const { fd } = this.#stream as { readonly fd?: number }
    // Only here: loading what calls libc would cost every command 10 ms.
    const { isReaderGone } = await import('./reader.ts')
    if (fd !== undefined && isReaderGone(fd)) throw new OutputClosed()
  }

  /** Resolves when the stream took `text`. Throws OutputClosed where nobody reads any more. */
  async write(text: string): Promise<void> {
    if (text === '') return
    await new Promise<void>((resolve, reject) => {
      this.#stream.write(text, (cause) => {
        if (cause === undefined || cause === null) resolve()
        else reject((cause as NodeJS.ErrnoException).code === 'EPIPE' ? new OutputClosed() : cause)
      })
    })
  }
}
