import { type ChildProcess, spawn } from 'node:child_process'
import type { Answer } from './raw-client.ts'

/** Only root can start a process of a second uid. */
export const isRoot = process.getuid!() === 0

export type Ids = { readonly uid: number; readonly gid: number; readonly groups?: readonly number[] }

/**
 * Sends the lines it reads to the socket and prints what comes back. It becomes the other uid once it runs, so that
 * the checkout may lie where that one could not start anything.
 */
export function relayOf({ uid, gid, groups = [] }: Ids): string {
  return `
process.setgroups(${JSON.stringify(groups)})
process.setgid(${gid})
process.setuid(${uid})
const socket = require('node:net').connect(process.argv[1])
process.stdin.pipe(socket)
socket.pipe(process.stdout)
`
}

/** A connection by a process of another uid, which connects when it is made. */
export class OtherCaller {
  readonly process: ChildProcess
  readonly lines: string[] = []
  #rest = ''
  #waiting: (() => void)[] = []
  #ended = false
  #nextId = 1

  constructor(socketPath: string, ids: Ids) {
    this.process = spawn(process.execPath, ['-e', relayOf(ids), socketPath], {
      env: {},
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.process.stdout!.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n')
      this.#rest = lines.pop()!
      this.lines.push(...lines)
      this.#wake()
    })
    this.process.stdin!.on('error', () => undefined)
    this.process.on('exit', () => {
      this.#ended = true
      this.#wake()
    })
  }

  send(bytes: string): void {
    this.process.stdin!.write(bytes)
  }

  async call(method: string, params: unknown = {}): Promise<Answer> {
    const id = this.#nextId++
    this.send(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`)
    return await this.answer((answer) => answer.id === id)
  }

  /** The first answer that fits, taken out of `lines`; rejects where the connection ends first. */
  async answer(fits: (answer: Answer) => boolean): Promise<Answer> {
    for (;;) {
      const index = this.lines.findIndex((line) => fits(JSON.parse(line) as Answer))
      if (index >= 0) return JSON.parse(this.lines.splice(index, 1)[0]!) as Answer
      if (this.#ended) throw new Error('the other caller ended without that answer')
      await this.#change()
    }
  }

  /** Resolves when the daemon has ended the connection. */
  async ended(): Promise<void> {
    while (!this.#ended) await this.#change()
  }

  /** Resolves once so many lines are there. */
  async received(count: number): Promise<void> {
    while (this.lines.length < count && !this.#ended) await this.#change()
  }

  close(): void {
    this.process.kill('SIGKILL')
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }
}
