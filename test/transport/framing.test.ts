import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Story } from '../flows/story.ts'
import type { RawClient } from '../support/raw-client.ts'
import { frameTooLarge, lines, parseError, pingOfLength, request } from './wire.ts'

// Section 1 of the contract: how bytes become lines, and what is answered to lines that are no JSON.

const lineMax = 65_536

let story: Story
beforeAll(async () => {
  story = await Story.begin()
})
afterAll(() => story[Symbol.asyncDispose]())

const ping = (id: number) => lines(request(id, 'system.ping'))
/** Something whose being carried out can be seen afterwards. */
const put = (userId: string) => lines(request(undefined, 'users.put', { userId }))

async function wasPut(userId: string): Promise<boolean> {
  const { error } = await story.main.call('users.get', { userId })
  if (error !== undefined) expect(error.data.type).toBe('NotFound')
  return error === undefined
}

/** Everything that is answered to `bytes` until purser ends the connection. */
async function answersUntilEnd(bytes: string | Buffer): Promise<unknown[]> {
  const client = story.connect()
  client.send(bytes)
  await client.ended()
  return client.answers
}

/** The next answer; the connection must live on behind it. */
async function answerAndLiveOn(client: RawClient): Promise<unknown> {
  const answer = await client.answer()
  expect(client.closed).toBe(false)
  expect((await client.call('system.ping')).result).toMatchObject({ pong: true })
  return answer
}

describe('the length of a line', () => {
  test.each(['x', 'é', '\u{1f512}'])('is at most 65,536 bytes, filled with %s', async (fill) => {
    const client = story.connect()
    const longest = pingOfLength(lineMax, fill)
    client.send(`${longest}\n`)
    expect(await answerAndLiveOn(client)).toMatchObject({
      id: JSON.parse(longest).id,
      result: { pong: true },
    })
    expect(await answersUntilEnd(`${pingOfLength(lineMax + 1, fill)}\n`)).toEqual([frameTooLarge])
  })

  test('counts in whatever pieces it comes', async () => {
    const client = story.connect()
    const text = `${pingOfLength(lineMax)}\n`
    for (const piece of [
      text.slice(0, 1),
      text.slice(1, 30_000),
      text.slice(30_000, -2),
      text.slice(-2, -1),
    ]) {
      client.send(piece)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(client.answers).toEqual([])
    client.send('\n')
    expect(await answerAndLiveOn(client)).toMatchObject({ result: { pong: true } })
  })

  test('does not wait for the newline of a line that is too long already', async () => {
    expect(await answersUntilEnd(`${'['.repeat(lineMax + 1)}`)).toEqual([frameTooLarge])
    const client = story.connect()
    client.send('['.repeat(lineMax))
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(client.answers).toEqual([])
    client.send('\n')
    expect(await answerAndLiveOn(client)).toEqual(parseError)
  })

  test('of one that is too long: what came before is answered, what comes after is not carried out', async () => {
    const answers = await answersUntilEnd(
      [ping(1), put('before-too-long'), `${'x'.repeat(lineMax + 1)}\n`, put('after-too-long'), ping(2)].join(
        '',
      ),
    )
    expect(answers).toEqual([expect.objectContaining({ id: 1, result: expect.anything() }), frameTooLarge])
    expect(await wasPut('before-too-long')).toBe(true)
    expect(await wasPut('after-too-long')).toBe(false)
  })

  test('counts in white space too', async () => {
    const client = story.connect()
    client.send(`${' '.repeat(lineMax)}\n`)
    client.send(`${ping(1).trimEnd().padStart(lineMax)}\n`)
    expect(await answerAndLiveOn(client)).toMatchObject({ id: 1, result: { pong: true } })
    for (const blank of [
      ' '.repeat(lineMax + 1),
      `${' '.repeat(lineMax + 1)}\n`,
      ping(1).padStart(lineMax + 2),
    ])
      expect(await answersUntilEnd(blank)).toEqual([frameTooLarge])
  })
})

test('empty and white-space lines are ignored, wherever their pieces end', async () => {
  const client = story.connect()
  const blank = '\n\r\n \n\t \r\n\n'
  client.send(`${blank}${ping(1)}${blank}`)
  for (const piece of [' ', '\t', '\n', '\n ', '\r', '\n', ` ${ping(2)}`, '\n'.repeat(100_000)]) {
    client.send(piece)
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  client.send(ping(3))
  await client.answer((answer) => !Array.isArray(answer) && answer.id === 3)
  expect(client.answers.flat().map(({ id }) => id)).toEqual([1, 2])
})

test('a line may end in a carriage return and have white space around it', async () => {
  const client = story.connect()
  client.send(`\t ${ping(1).trimEnd()} \r\n`)
  expect(await answerAndLiveOn(client)).toMatchObject({ id: 1, result: { pong: true } })
})

describe('at the end of input', () => {
  test('bytes after the last newline are dropped, what came before is answered', async () => {
    const client = story.connect()
    client.socket.end(ping(1) + put('ended-in-the-midst').trimEnd())
    await client.ended()
    expect(client.answers).toEqual([expect.objectContaining({ id: 1, result: expect.anything() })])
    expect(await wasPut('ended-in-the-midst')).toBe(false)
  })

  test('answers that are made one after another all come', async () => {
    const client = story.connect()
    client.socket.end(lines(request(1, 'rpc.discover')).repeat(5))
    await client.ended()
    expect(client.answers).toHaveLength(5)
  })

  test('nothing is answered where nothing was asked', async () => {
    const client = story.connect()
    client.socket.end('{"jsonrpc"')
    await client.ended()
    expect(client.answers).toEqual([])
  })
})

const bom = '\ufeff'
const noJson: [name: string, line: string | Buffer][] = [
  ['a word', 'hello'],
  ['half an object', '{"jsonrpc":"2.0","id":1'],
  ['two values', '{} {}'],
  ['a trailing comma', '{"jsonrpc":"2.0","id":1,"method":"system.ping",}'],
  ['single quotes', "{'jsonrpc':'2.0'}"],
  ['a comment', '{"jsonrpc":"2.0","id":1,"method":"system.ping"} // now'],
  ['NaN', '{"jsonrpc":"2.0","id":NaN,"method":"system.ping"}'],
  ['a raw control character in a string', '{"jsonrpc":"2.0","id":"\u0001","method":"system.ping"}'],
  ['a NUL', '\0'],
  ['a vertical tab', '\v'],
  ['a no-break space', '\u00a0'],
  ['a leading BOM', bom + ping(1).trimEnd()],
  ['a BOM alone', bom],
  ['UTF-16', Buffer.from(ping(1).trimEnd(), 'utf16le')],
  ['a record separator', `\u001e${ping(1).trimEnd()}`],
  ['a length prefix', `Content-Length: 47`],
  ['brackets a line deep', '['.repeat(lineMax)],
]
const badUtf8: [name: string, bytes: number[]][] = [
  ['a lone continuation byte', [0x80]],
  ['a lead byte alone', [0xc3]],
  ['an overlong slash', [0xc0, 0xaf]],
  ['half a surrogate pair', [0xed, 0xa0, 0x80]],
  ['beyond U+10FFFF', [0xf4, 0x90, 0x80, 0x80]],
  ['0xff', [0xff]],
  ['the first half of four bytes', [0xf0, 0x9f]],
]

describe('-32700, id null, and the connection lives on', () => {
  test.each(noJson)('%s', async (_, line) => {
    const client = story.connect()
    client.send(Buffer.concat([Buffer.from(line), Buffer.from('\n')]))
    expect(await answerAndLiveOn(client)).toEqual(parseError)
  })

  test.each(badUtf8)('%s in a string', async (_, bytes) => {
    const client = story.connect()
    const [head, tail] = ['{"jsonrpc":"2.0","id":"', '","method":"system.ping"}\n']
    client.send(Buffer.concat([Buffer.from(head), Buffer.from(bytes), Buffer.from(tail)]))
    expect(await answerAndLiveOn(client)).toEqual(parseError)
  })

  test('many of them in one write, each once', async () => {
    const client = story.connect()
    client.send(`x\n${ping(1)}`.repeat(300))
    await expect.poll(() => client.answers.length, { timeout: 5000 }).toBe(600)
    expect(client.answers.filter((answer) => !Array.isArray(answer) && answer.id === null)).toHaveLength(300)
  })
})

describe('an HTTP request line gets the same and is closed at once', () => {
  test.each([
    'GET / HTTP/1.1',
    'POST /rpc HTTP/1.1\r',
    'OPTIONS * HTTP/1.0',
    'CONNECT host:443 HTTP/1.1',
    'M-SEARCH * HTTP/1.1',
    'PRI * HTTP/2.0',
    'get /lower HTTP/1.1',
    'POST http://localhost/ HTTP/1.1',
    `POST /${'a'.repeat(lineMax - 20)} HTTP/1.1`,
    'POST /caf\u00e9\u00e0 HTTP/1.1',
    'POST /{"params":{"token":"x"}} HTTP/1.1',
  ])('%.40s', async (line) => {
    const userId = `behind-http-${Buffer.byteLength(line)}-${line.charCodeAt(0)}`
    const body = `Host: localhost\r\nContent-Type: application/json\r\n\r\n${put(userId)}${ping(2)}`
    expect(await answersUntilEnd(`${line}\n${body}`)).toEqual([parseError])
    expect(await wasPut(userId)).toBe(false)
  })

  test('what came before it is answered', async () => {
    const answers = await answersUntilEnd(`${ping(1)}GET / HTTP/1.1\r\n${ping(2)}`)
    expect(answers).toHaveLength(2)
    expect(answers).toContainEqual(expect.objectContaining({ id: 1, result: expect.anything() }))
    expect(answers).toContainEqual(parseError)
  })

  test('all of it, where that takes several turns', async () => {
    const before = `${ping(1).repeat(700)}${lines(request(1, 'rpc.discover')).repeat(5)}`
    const answers = await answersUntilEnd(`${before}GET / HTTP/1.1\r\n${ping(2)}`)
    expect(answers).toHaveLength(706)
    expect(answers.filter((answer) => (answer as { id: unknown }).id === 1)).toHaveLength(705)
  })

  test.each(['GET /', 'HTTP/1.1 200 OK', ' GET / HTTP/1.1', 'GET  HTTP/1.1 ', '"GET / HTTP/1.1" x'])(
    'but not %s',
    async (line) => {
      const client = story.connect()
      client.send(`${line}\n`)
      expect(await answerAndLiveOn(client)).toEqual(parseError)
    },
  )

  test('nor JSON that holds one', async () => {
    const client = story.connect()
    client.send(lines(request('GET / HTTP/1.1', 'system.ping')))
    expect(await answerAndLiveOn(client)).toMatchObject({ id: 'GET / HTTP/1.1', result: { pong: true } })
  })
})
