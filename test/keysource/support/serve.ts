import { createServer as createHttp, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'

/** What a server does with one request, whose body has arrived. */
export type Handler = (request: IncomingMessage, body: Buffer, response: ServerResponse) => void

/** A server of a test on a port of its own; `close` cuts what is still open. */
export type Served = { readonly port: number; readonly close: () => Promise<void> }

/** Serves on 127.0.0.1, by TLS where a key and certificate are given. */
export async function serve(handler: Handler, tls?: { key: string; cert: string }): Promise<Served> {
  const take = (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => handler(request, Buffer.concat(chunks), response))
  }
  const server: Server = tls === undefined ? createHttp(take) : createHttps(tls, take)
  const sockets = new Set<Socket>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}

/** Takes the place of a service for one request. */
export type Interjection = (response: ServerResponse, request: IncomingMessage) => void

/** An answer of a given status and body. */
export function answering(
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Interjection {
  return (response) => {
    response.writeHead(status, headers)
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  }
}

/** No answer at all; the connection stays open. */
export const silence: Interjection = () => undefined

/** Headers, half of a body, and then nothing. */
export const stall: Interjection = (response) => {
  response.writeHead(200, { 'content-type': 'application/json' })
  response.write('{"data":')
}

/** A connection that is cut after the request. */
export const hangUp: Interjection = (response) => {
  response.socket?.destroy()
}

/** An answer without end. */
export const flood: Interjection = (response) => {
  response.writeHead(200, { 'content-type': 'application/json' })
  const chunk = Buffer.alloc(65_536, 0x20)
  const more = () => {
    while (!response.destroyed && response.write(chunk));
    if (!response.destroyed) response.once('drain', more)
  }
  more()
}
