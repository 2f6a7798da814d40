import net from 'node:net'

export type Answer = {
  jsonrpc: '2.0'
  id: string | number | null
  // biome-ignore lint/suspicious/noExplicitAny: what the daemon answers is what a test looks into
  result?: any
  // biome-ignore lint/suspicious/noExplicitAny: the same
  error?: { code: number; message: string; data: any }
}

/** A connection of plain bytes: sends lines as they are, gives back answers as they come. */
export class RawClient {
  readonly socket: net.Socket
  readonly answers: (Answer | Answer[])[] = []
  #text = ''
  #waiting: (() => void)[] = []
  #nextId = 1
  closed = false

  constructor(socketPath: string) {
    this.socket = net.connect({ path: socketPath, allowHalfOpen: true })
    this.socket.setEncoding('utf8')
    this.socket.on('data', (text: string) => {
      const lines = (this.#text + text).split('\n')
      this.#text = lines.pop()!
      for (const line of lines) this.answers.push(JSON.parse(line))
      this.#wake()
    })
    const ended = () => {
      this.closed = true
      this.#wake()
    }
    this.socket.on('end', ended).on('close', ended).on('error', ended)
  }

  /** Sends bytes as they are. */
  send(bytes: string | Uint8Array): void {
    this.socket.write(bytes)
  }

  /** Sends one request and resolves with its answer, others stay in `answers`. */
  async call(
    method: string,
    params?: unknown,
    id: string | number = `call-${this.#nextId++}`,
  ): Promise<Answer> {
    this.send(
      `${JSON.stringify({ jsonrpc: '2.0', id, method, ...(params === undefined ? {} : { params }) })}\n`,
    )
    return (await this.answer((answer) => !Array.isArray(answer) && answer.id === id)) as Answer
  }

  /** The first answer that fits, taken out of `answers`; rejects when the connection ends or `timeoutMs` pass first. */
  async answer(
    fits: (answer: Answer | Answer[]) => boolean = () => true,
    timeoutMs = 20_000,
  ): Promise<Answer | Answer[]> {
    const until = performance.now() + timeoutMs
    for (;;) {
      const index = this.answers.findIndex(fits)
      if (index !== -1) return this.answers.splice(index, 1)[0]!
      if (this.closed) throw new Error('the connection ended without that answer')
      if (performance.now() > until) throw new Error(`no such answer within ${timeoutMs} ms`)
      await this.#change(until)
    }
  }

  /** Resolves when the daemon has ended or cut the connection. */
  async ended(timeoutMs = 20_000): Promise<void> {
    const until = performance.now() + timeoutMs
    while (!this.closed) {
      if (performance.now() > until) throw new Error(`the connection was not ended within ${timeoutMs} ms`)
      await this.#change(until)
    }
  }

  close(): void {
    this.socket.destroy()
  }

  #change(until: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, until - performance.now()))
      this.#waiting.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}
