import { readdirSync, readFileSync } from 'node:fs'
import type { RawClient } from '../support/raw-client.ts'
import { until } from './story.ts'

/** How long a connection is quiet before all that the kernel holds of it counts as read. */
const quietMs = 40

/** Counts what comes in on a connection, byte by byte, and can leave it unread. */
export class Watched {
  readonly client: RawClient
  text = ''
  #lastAt = performance.now()

  constructor(client: RawClient) {
    this.client = client
    client.socket.on('data', (text) => {
      this.text += text
      this.#lastAt = performance.now()
    })
  }

  /** Leaves what comes in the kernel. */
  stopReading(): void {
    this.client.socket.pause()
  }

  get quiet(): boolean {
    return performance.now() - this.#lastAt > quietMs
  }
}

/**
 * Halts the daemon and reads everything the kernel holds of the connections. What is read after `go` was not with the
 * kernel when the daemon was halted.
 */
export async function halt(pid: number, watched: readonly Watched[]): Promise<{ go(): void }> {
  process.kill(pid, 'SIGSTOP')
  await until(() => isStopped(pid))
  for (const { client } of watched) client.socket.resume()
  const startedAt = performance.now()
  await until(() => performance.now() - startedAt > quietMs && watched.every(({ quiet }) => quiet))
  return { go: () => process.kill(pid, 'SIGCONT') }
}

function isStopped(pid: number): boolean {
  const threads = readdirSync(`/proc/${pid}/task`)
  return threads.every((thread) => /\) T /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8')))
}
