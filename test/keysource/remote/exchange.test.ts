import { expect, test } from 'vitest'
import { exchange } from '../../../src/keysource/remote/exchange.ts'
import { SourceError } from '../../../src/keysource/remote/source-error.ts'
import { type Interjection, serve } from '../support/serve.ts'

const never = new AbortController().signal
const get = (url: string, signal = never) =>
  exchange({ method: 'GET', url: new URL(url), headers: { 'x-secret': 'hush' }, body: null, signal })

async function answeredBy(handle: Interjection): Promise<{ url: string; close: () => Promise<void> }> {
  const server = await serve((request, _, response) => handle(response, request))
  return { url: `http://127.0.0.1:${server.port}/`, close: server.close }
}

test('whatever comes back whole is an answer: status, headers, bytes', async () => {
  const { url, close } = await answeredBy((response) => {
    response.writeHead(418, { 'X-Many': ['a', 'b'] }).end(Buffer.from([0, 255]))
  })
  const answer = await get(url)
  expect(answer).toMatchObject({ status: 418, body: Buffer.from([0, 255]) })
  expect(answer.headers['x-many']).toBe('a, b')
  await close()
})

test('a body goes as it is, on a connection of its own', async () => {
  const seen: string[] = []
  const server = await serve((request, body, response) => {
    seen.push(`${request.method} ${request.headers.connection} ${body.toString('hex')}`)
    response.end()
  })
  const url = new URL(`http://localhost:${server.port}/`)
  await exchange({ method: 'POST', url, headers: {}, body: Buffer.from([1, 2, 255]), signal: never })
  expect(seen).toEqual(['POST close 0102ff'])
  await server.close()
})

test.each(['http://192.0.2.1/', 'http://vault.example/', 'ftp://127.0.0.1/', 'http://a.localhost/'])(
  '%s is not asked',
  async (url) => {
    await expect(get(url)).rejects.toMatchObject({ name: 'SourceError', exit: 'config', retry: false })
  },
)

test('an abort ends it with its reason, before it begins and in the middle', async () => {
  const { url, close } = await answeredBy((response) => {
    response.writeHead(200)
    response.write('half')
  })
  const reason = new SourceError('cut off', 'hint')
  await expect(get(url, AbortSignal.abort(reason))).rejects.toBe(reason)
  const controller = new AbortController()
  setTimeout(() => controller.abort(reason), 50)
  await expect(get(url, controller.signal)).rejects.toBe(reason)
  await close()
})

test('an answer of 256 KiB is taken, a byte more is not', async () => {
  let length = 256 * 1024
  const { url, close } = await answeredBy((response) => void response.end(Buffer.alloc(length)))
  expect((await get(url)).body).toHaveLength(length)
  length += 1
  await expect(get(url)).rejects.toMatchObject({ message: 'its answer is longer than 256 KiB', retry: false })
  await close()
})

test('headers without end, and no HTTP at all, are refused', async () => {
  for (const [bytes, retry] of [
    [`HTTP/1.1 200 OK\r\n${'x-h: y\r\n'.repeat(10_000)}\r\n`, false],
    ['SSH-2.0-OpenSSH_9.2\r\n', false],
    ['HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf', true],
    ['', true],
  ] as const) {
    const { url, close } = await answeredBy((response) => void response.socket?.end(bytes))
    await expect(get(url)).rejects.toMatchObject({ name: 'SourceError', retry })
    await expect(get(url)).rejects.not.toThrow(/hush/)
    await close()
  }
})
