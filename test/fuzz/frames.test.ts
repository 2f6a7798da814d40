import net from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Story, testSeed } from '../flows/story.ts'
import { residentMib } from '../transport/wire.ts'
import { FrameMaker } from './frame-maker.ts'
import { expectedAnswer, keyOfAnswer } from './frame-oracle.ts'

// Malformed, random, mutated and ordinary lines against one real daemon: it lives, its memory stays what it is, and
// every line gets exactly the answer that the contract gives it, in whatever pieces it comes.

const frames = Number(process.env['PURSER_TEST_FUZZ_FRAMES'] ?? 200_000)
const connections = 4
/** Lines sent before their answers are compared. */
const roundFrames = 2500
/** What is compiled, cached and grown once is there after so many lines. */
const warmUpFrames = frames / 4
/** By how much the collector may let the heap grow after that; it does not grow with the number of lines. */
const memoryMibMax = 96
const seed = testSeed()
/** A busy machine does some thousand lines a second. */
const timeoutMs = 60_000 + frames / 2

let story: Story
beforeAll(async () => {
  story = await Story.begin({ args: ['--log-level', 'error'] })
})
afterAll(() => story[Symbol.asyncDispose]())

/** A connection that sends rounds of lines in odd pieces and compares what is answered with what must be. */
class Fuzzer {
  readonly #maker: FrameMaker
  readonly #socket: net.Socket
  readonly #counts = new Map<string, number>()
  #text = ''
  #wake: () => void = () => undefined
  #left = 0
  #failure: Error | null = null
  answers = 0

  constructor(socketPath: string, maker: FrameMaker) {
    this.#maker = maker
    this.#socket = net.connect(socketPath).setEncoding('utf8')
    this.#socket.on('data', (text) => this.#take(text as unknown as string))
    this.#socket.on('error', (error) => this.#fail(error))
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed')))
  }

  async round(count: number): Promise<void> {
    const parts: Buffer[] = []
    const newline = Buffer.from('\n')
    for (let n = 0; n < count; n++) {
      const line = this.#maker.line()
      const key = expectedAnswer(line)
      if (key !== null) this.#expect(key)
      parts.push(line, newline)
    }
    // A line that closes every round: once it is answered, nothing more of the round is.
    this.#expect('"end of round"')
    parts.push(Buffer.from('{"jsonrpc":"2.0","id":"end of round","method":"system.ping"}\n'))
    this.#send(Buffer.concat(parts))
    const until = performance.now() + 60_000
    while (this.#left > 0 && this.#failure === null) {
      if (performance.now() > until) throw new Error(`no answer: ${this.#wrong()}`)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        setTimeout(resolve, 1000)
      })
    }
    if (this.#failure !== null) throw this.#failure
    expect(this.#wrong()).toBe('')
  }

  close(): void {
    this.#socket.removeAllListeners('close').destroy()
  }

  #expect(key: string): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
    this.#left++
  }

  #send(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const length = this.#maker.pieceLength()
      this.#socket.write(bytes.subarray(at, at + Math.max(length, Math.floor(bytes.length / 300))))
      at += Math.max(length, Math.floor(bytes.length / 300))
    }
  }

  #take(text: string): void {
    const lines = (this.#text + text).split('\n')
    this.#text = lines.pop()!
    try {
      for (const line of lines) {
        const key = keyOfAnswer(line)
        const left = (this.#counts.get(key) ?? 0) - 1
        if (left < 0) throw new Error(`an answer that nothing asked for: ${key} ${line.slice(0, 500)}`)
        if (left === 0) this.#counts.delete(key)
        else this.#counts.set(key, left)
        this.#left--
        this.answers++
      }
    } catch (error) {
      this.#fail(error as Error)
    }
    if (this.#left === 0 || this.#failure !== null) this.#wake()
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#wake()
  }

  /** Which answers have not come. */
  #wrong(): string {
    return [...this.#counts]
      .slice(0, 10)
      .map(([key, count]) => `${count} x ${key}`)
      .join(', ')
  }
}

test(`${frames} lines`, { timeout: timeoutMs }, async () => {
  const startedAt = performance.now()
  const fuzzers = Array.from(
    { length: connections },
    (_, n) =>
      new Fuzzer(story.purser.socketPath, new FrameMaker(seed + n, n % 2 === 0 ? 'retrieves' : 'revokes')),
  )
  const figures: number[] = []
  let warmMib = 0
  try {
    for (let sent = 0; sent < frames; sent += connections * roundFrames) {
      await Promise.all(fuzzers.map((fuzzer) => fuzzer.round(roundFrames)))
      const resident = residentMib(story.purser.pid)
      figures.push(Math.round(resident))
      if (sent <= warmUpFrames) warmMib = Math.max(warmMib, resident)
    }
    const answers = fuzzers.reduce((sum, fuzzer) => sum + fuzzer.answers, 0)
    expect(answers).toBeGreaterThan(frames / 2)
    expect(residentMib(story.purser.pid) - warmMib, `RSS by round: ${figures.join(' ')}`).toBeLessThan(
      memoryMibMax,
    )
    expect(story.purser.logs().filter((line) => line.includes('"level":50'))).toEqual([])
    await story.chainHolds()
    expect((await story.ok('system.status')).connections.inFlight).toBe(1)
  } catch (error) {
    console.error(`PURSER_TEST_SEED=${seed} PURSER_TEST_FUZZ_FRAMES=${frames}`)
    throw error
  } finally {
    for (const fuzzer of fuzzers) fuzzer.close()
  }
  if (process.env['PURSER_TEST_FUZZ_FRAMES'] !== undefined)
    console.info(
      `seed ${seed}: ${Math.round(performance.now() - startedAt)} ms, RSS by round, MiB: ${figures.join(' ')}`,
    )
})
