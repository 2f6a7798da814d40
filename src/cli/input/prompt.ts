import type { ReadStream } from 'node:tty'
import { CliError } from '../cli-error.ts'
import { type EditorState, LineEditor } from './line-editor.ts'

/** The longest line a question takes: no secret of a credential is near it. */
const maxAnswerBytes = 4096
const shownCharacter = 0x20
const lineFeed = 0x0a
const carriageReturn = 0x0d

export type Question = { readonly text: string; readonly echo: boolean }

/**
 * Asks on a terminal in raw mode, so that nothing typed or pasted is echoed unless the question says so. What is pasted
 * beyond a line break answers the next question; close() restores the terminal and drops the rest, which therefore
 * never reaches the shell.
 */
export class Prompter {
  readonly #input: ReadStream
  readonly #output: NodeJS.WritableStream
  #pending: Buffer[] = []
  #wake: (() => void) | null = null
  #ended = false
  /** The last line ended in CR: an LF that follows belongs to it and answers nothing. */
  #afterCarriageReturn = false

  constructor(input: ReadStream, output: NodeJS.WritableStream) {
    this.#input = input
    this.#output = output
    input.setRawMode(true)
    input.on('data', this.#take)
    input.on('end', this.#end)
    input.resume()
  }

  /** The answer without white space around it. Throws CliError `interrupted` at Ctrl-C and at the end of input. */
  async ask(question: Question): Promise<string> {
    this.#output.write(`${question.text} `)
    const editor = new LineEditor(maxAnswerBytes)
    try {
      const state = await this.#edit(editor, question.echo)
      this.#output.write('\n')
      if (state === 'cancel') throw new CliError('interrupted', 'interrupted; nothing was done')
      if (state === 'too-long')
        throw new CliError('badInput', `more than ${maxAnswerBytes} bytes on one line`)
      return editor.text()
    } finally {
      editor.wipe()
    }
  }

  /** Restores the terminal. Call it in a `finally`. */
  close(): void {
    this.#input.off('data', this.#take)
    this.#input.off('end', this.#end)
    this.#input.setRawMode(false)
    this.#input.pause()
    for (const chunk of this.#pending) chunk.fill(0)
    this.#pending = []
  }

  async #edit(editor: LineEditor, echo: boolean): Promise<EditorState> {
    for (;;) {
      const chunk = this.#pending[0]
      if (chunk === undefined) {
        if (this.#ended) return 'cancel'
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        continue
      }
      const state = this.#feed(editor, chunk, echo)
      if (state !== 'editing') return state
      chunk.fill(0)
      this.#pending.shift()
    }
  }

  /** Feeds bytes up to the end of a line and keeps the rest of the chunk for the next question. */
  #feed(editor: LineEditor, chunk: Buffer, echo: boolean): EditorState {
    for (let index = 0; index < chunk.length; index++) {
      const value = chunk[index] ?? 0
      const belongsToLastLine = this.#afterCarriageReturn && value === lineFeed
      this.#afterCarriageReturn = false
      if (belongsToLastLine) continue
      const before = echo ? editor.characters : 0
      const state = editor.feed(value)
      if (state !== 'editing') {
        this.#afterCarriageReturn = value === carriageReturn
        chunk.fill(0, 0, index + 1)
        this.#pending[0] = chunk.subarray(index + 1)
        if (chunk.length === index + 1) this.#pending.shift()
        return state
      }
      if (echo) this.#echo(editor.characters - before, value)
    }
    return 'editing'
  }

  #echo(added: number, value: number): void {
    if (added > 0 || (value & 0xc0) === 0x80) {
      if (value >= shownCharacter) this.#output.write(Buffer.from([value]))
    } else if (added < 0) {
      this.#output.write('\b \b'.repeat(-added))
    }
  }

  readonly #take = (chunk: Buffer): void => {
    this.#pending.push(Buffer.from(chunk))
    chunk.fill(0)
    this.#wake?.()
  }

  readonly #end = (): void => {
    this.#ended = true
    this.#wake?.()
  }
}
