import type { ReadStream } from 'node:tty'
import { type Output, OutputClosed } from '../output.ts'
import type { Line } from './columns.ts'
import { paintLine, type ScreenSize } from './frame.ts'

/** The alternate screen, so that the shell's comes back untouched; no cursor; no wrapping at the right edge. */
const enterSequence = '\x1b[?1049h\x1b[?25l\x1b[?7l'
/** Emptied first: tmux 3.3 else leaves lines of it on the shell's screen where the window has grown meanwhile. */
const leaveSequence = '\x1b[H\x1b[J\x1b[?7h\x1b[?25h\x1b[?1049l'

/** A terminal may claim any size; more than this nobody reads. */
const maxColumns = 500
const maxRows = 200

const key = { ctrlC: 0x03, ctrlZ: 0x1a, lowerQ: 0x71, upperQ: 0x51 } as const
const actingKeys: ReadonlySet<number> = new Set(Object.values(key))
/** After SIGTSTP the process goes on at once where nothing stopped it (no job control), else when it is continued. */
const resumeMs = 50

export type ScreenEvents = {
  /** q or Ctrl-C was typed. */
  onQuit(): void
  /** What is drawn has to be drawn anew: another size, or back after Ctrl-Z. */
  onStale(): void
}

/**
 * The terminal as one page. Only lines that differ from what stands there are written, so that nothing flickers and a
 * slow connection keeps up. Whatever ends the process, `leave` gives the terminal back as it was.
 */
export class Screen {
  readonly #output: Output
  readonly #input: ReadStream | null
  readonly #events: ScreenEvents
  /** The lines that stand there; null where that is not known. */
  #drawn: readonly string[] | null = null
  #entered = false
  #stopListening: (() => void) | null = null

  /** `input` is where keys come from; null where stdin is no terminal. */
  constructor(output: Output, input: ReadStream | null, events: ScreenEvents) {
    this.#output = output
    this.#input = input
    this.#events = events
  }

  get size(): ScreenSize {
    const { columns, rows } = this.#output.terminalSize ?? { columns: 80, rows: 24 }
    return { columns: Math.min(columns, maxColumns), rows: Math.min(rows, maxRows) }
  }

  /** Takes the terminal. Rejects with OutputClosed where nobody is there any more. */
  async enter(): Promise<void> {
    if (this.#stopListening === null) this.#stopListening = this.#listen()
    this.#entered = true
    this.#input?.setRawMode(true)
    await this.#write(enterSequence)
  }

  /** Draws `lines`. Rejects with OutputClosed. */
  async draw(lines: readonly Line[]): Promise<void> {
    if (!this.#entered) return
    const { columns, rows } = this.size
    const { paint } = this.#output
    const painted = lines.slice(0, rows).map((line) => paintLine(line, columns, paint))
    const before = this.#drawn
    let text = ''
    for (let row = 0; row < rows; row++) {
      const line = painted[row] ?? ''
      if (before === null || line !== (before[row] ?? '')) text += `\x1b[${row + 1};1H\x1b[2K${line}`
    }
    this.#drawn = painted
    await this.#write(text)
  }

  /** Gives the terminal back and stops listening. Safe to call again. */
  leave(): void {
    this.#stopListening?.()
    this.#stopListening = null
    this.#restore()
  }

  /** Writes to a terminal are done when write() returns, so that this works in an `exit` listener too. */
  #restore(): void {
    if (!this.#entered) return
    this.#entered = false
    this.#drawn = null
    this.#input?.setRawMode(false)
    void this.#output.write(leaveSequence).catch(() => undefined)
  }

  #listen(): () => void {
    const onExit = (): void => this.#restore()
    const onContinued = (): void => this.#resume()
    const stopResize = this.#output.onResize(() => this.#redraw())
    process.on('exit', onExit)
    process.on('SIGCONT', onContinued)
    this.#input?.on('data', this.#onKeys)
    this.#input?.resume()
    return () => {
      stopResize()
      process.off('exit', onExit)
      process.off('SIGCONT', onContinued)
      this.#input?.off('data', this.#onKeys)
      this.#input?.pause()
    }
  }

  readonly #onKeys = (typed: Buffer): void => {
    const byte = typed.find((value) => actingKeys.has(value))
    if (byte === key.ctrlZ) this.#suspend()
    else if (byte !== undefined) this.#events.onQuit()
  }

  /** Raw mode takes Ctrl-Z from the terminal, so what it would have done is done here. */
  #suspend(): void {
    this.#restore()
    // To the whole group, as the terminal would: the shell waits for all of it.
    process.kill(0, 'SIGTSTP')
    setTimeout(() => this.#resume(), resumeMs)
  }

  /** The shell may have changed the terminal's mode while the process was stopped. */
  #resume(): void {
    if (this.#stopListening === null) return
    if (this.#entered) this.#input?.setRawMode(false)
    this.enter().catch(() => undefined)
    this.#redraw()
  }

  #redraw(): void {
    if (!this.#entered) return
    this.#drawn = null
    this.#events.onStale()
  }

  async #write(text: string): Promise<void> {
    try {
      await this.#output.write(text)
    } catch (cause) {
      // A terminal that was hung up answers EIO.
      if ((cause as NodeJS.ErrnoException).code === 'EIO') throw new OutputClosed()
      throw cause
    }
  }
}
