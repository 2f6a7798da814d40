import { readFileSync } from 'node:fs'
import net from 'node:net'
import { expect } from 'vitest'
import type { Answer } from '../support/raw-client.ts'

/** A request as it goes over the wire; without an id a notification. */
export function request(id: unknown, method: unknown, params?: unknown): Record<string, unknown> {
  return {
    jsonrpc: '2.0',
    ...(id === undefined ? {} : { id }),
    method,
    ...(params === undefined ? {} : { params }),
  }
}

/** Each of `values` as one line. */
export function lines(...values: unknown[]): string {
  return values.map((value) => `${JSON.stringify(value)}\n`).join('')
}

/** A ping whose line is exactly `bytes` long, its newline not counted. */
export function pingOfLength(bytes: number, fill = 'x'): string {
  const shape = JSON.stringify(request('', 'system.ping'))
  const room = bytes - Buffer.byteLength(shape)
  const length = Buffer.byteLength(fill)
  const id = fill.repeat(Math.floor(room / length)) + '-'.repeat(room % length)
  const line = JSON.stringify(request(id, 'system.ping'))
  expect(Buffer.byteLength(line)).toBe(bytes)
  return line
}

/** What a protocol error looks like: nothing beside the members of section 4. */
export function protocolError(code: number, type: string, id: unknown = null): object {
  const data = { type, retryable: false, hint: expect.any(String) }
  return { jsonrpc: '2.0', id, error: { code, message: expect.any(String), data } }
}

export const parseError = protocolError(-32700, 'ParseError')
export const invalidRequest = protocolError(-32600, 'InvalidRequest')
export const frameTooLarge = protocolError(-32600, 'FrameTooLarge')

/** The types of errors in `answers`, `ok` for results, in the order of their ids. */
export function outcomes(answers: readonly (Answer | Answer[])[]): string[] {
  return answers
    .flat()
    .sort((a, b) => Number(a.id) - Number(b.id))
    .map(({ error }) => error?.data.type ?? 'ok')
}

/** What the kernel counts as the process's own memory now, in MiB. */
export function residentMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)![1]) / 1024
}

/** A client that writes as long as anybody takes it, and does not read, so that it hears of its end late. */
export class DeafClient {
  readonly socket: net.Socket
  closed = false

  constructor(socketPath: string) {
    this.socket = net.connect({ path: socketPath, allowHalfOpen: true })
    this.socket.pause()
    const ended = () => {
      this.closed = true
    }
    this.socket.on('end', ended).on('close', ended).on('error', ended)
  }

  /** Bytes that the kernel took. */
  get taken(): number {
    return this.socket.bytesWritten - this.socket.writableLength
  }

  send(bytes: string | Uint8Array): void {
    this.socket.write(bytes)
  }

  /** Sends `chunk` over and over until `total` bytes are taken or nobody takes any for `quietMs`; answers how many were. */
  async flood(chunk: string, total: number, quietMs = 300): Promise<number> {
    const before = this.taken
    let moved = performance.now()
    for (let taken = before; taken - before < total && !this.closed; ) {
      if (this.socket.writableLength < 256 * 1024) this.socket.write(chunk)
      await new Promise((resolve) => setTimeout(resolve, 1))
      if (this.taken > taken) {
        taken = this.taken
        moved = performance.now()
      } else if (performance.now() - moved > quietMs) break
    }
    return this.taken - before
  }

  close(): void {
    this.socket.destroy()
  }
}
