import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A request as the test's server sees it. */
export type Request = { id: number; method: string; params: Record<string, unknown> }

/** What a test does with each request, on a connection numbered from 1. */
export type OnRequest = (request: Request, reply: Reply, connection: number) => void

export type Reply = {
  result(result: unknown): void
  error(error: { code: number; message: string; data?: unknown }): void
  /** Writes these bytes as they are. */
  raw(bytes: string | Uint8Array): void
  socket: Socket
}

/** A small real server on a real Unix socket that speaks the protocol the way a test wants it to. */
export class Peer implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'purser-peer-'))
  readonly socketPath = join(this.directory, 'purser.sock')
  /** Every request, in order of arrival, with its connection's number. */
  readonly requests: (Request & { connection: number })[] = []
  connections = 0
  onRequest: OnRequest
  onConnection: (socket: Socket, connection: number) => void = () => {}
  readonly #sockets = new Set<Socket>()
  #server: Server | null = null

  constructor(onRequest: OnRequest = (_request, reply) => reply.result({ pong: true, at: 'now' })) {
    this.onRequest = onRequest
  }

  static async start(onRequest?: OnRequest): Promise<Peer> {
    const peer = new Peer(onRequest)
    await peer.listen()
    return peer
  }

  methods(): string[] {
    return this.requests.map((request) => request.method)
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => this.#accept(socket))
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.socketPath, resolve)
    })
  }

  /** Cuts every connection and stops listening; the socket file goes with it. */
  async stop(): Promise<void> {
    this.cut()
    const server = this.#server
    this.#server = null
    if (server !== null) await new Promise((resolve) => server.close(resolve))
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }

  #accept(socket: Socket): void {
    this.connections += 1
    const connection = this.connections
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => this.#sockets.delete(socket))
    let rest = ''
    socket.setEncoding('utf8')
    socket.on('data', (text: string) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) this.#onLine(line, socket, connection)
    })
    this.onConnection(socket, connection)
  }

  #onLine(line: string, socket: Socket, connection: number): void {
    const request: Request = JSON.parse(line)
    this.requests.push({ ...request, connection })
    const send = (answer: object): void => {
      if (!socket.destroyed)
        socket.write(`${JSON.stringify({ jsonrpc: '2.0', id: request.id, ...answer })}\n`)
    }
    const reply: Reply = {
      result: (result) => send({ result }),
      error: (error) => send({ error }),
      raw: (bytes) => void socket.write(bytes),
      socket,
    }
    this.onRequest(request, reply, connection)
  }
}

/** Resolves once `condition` holds; throws after `withinMs`. */
export async function until(condition: () => boolean, withinMs = 5000): Promise<void> {
  const deadlineMs = performance.now() + withinMs
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not so within ${withinMs} ms: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

/** What `promise` rejects with; throws where it does not. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    (value) => {
      throw new Error(`resolved with ${JSON.stringify(value)}`)
    },
    (error: unknown) => error,
  )
}

export const helloResult = {
  server: 'purserd',
  version: '0.0.0',
  protocol: 1,
  identity: { uid: 0, gid: 0, pid: 1, client: 'test', role: 'admin', users: '*', scopes: ['admin'] },
  sealed: false,
}
