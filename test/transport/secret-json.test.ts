import { afterEach, describe, expect, test, vi } from 'vitest'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { type ParsedLine, parseLine, secretMemberNames } from '../../src/transport/secret-json.ts'

const secretText = 'c2VjcmV0IG9mIGEgYm90'

function parse(text: string): NonNullable<ParsedLine> {
  const parsed = parseLine(lineOf(text))
  if (parsed === null) throw new Error(`not parsed: ${text}`)
  return parsed
}

function lineOf(text: string): Buffer {
  return offHeapCopy(Buffer.from(text))
}

function secret(text = secretText): SecretBytes {
  return new SecretBytes(offHeapCopy(Buffer.from(text)))
}

function issuesOf(parsed: NonNullable<ParsedLine>, request: unknown = parsed.value): readonly string[] {
  return (parsed.issues?.get(request as object) ?? []).map(({ path, message }) => `${path}: ${message}`)
}

/** What parsing left in memory: every ArrayBuffer made meanwhile. */
function buffersMadeBy(run: () => void): ArrayBuffer[] {
  const made: ArrayBuffer[] = []
  const Plain = globalThis.ArrayBuffer
  class Recorded extends Plain {
    constructor(length: number) {
      super(length)
      made.push(this)
    }
  }
  vi.stubGlobal('ArrayBuffer', Recorded)
  try {
    run()
  } finally {
    vi.unstubAllGlobals()
  }
  return made
}

afterEach(() => {
  vi.unstubAllGlobals()
})

describe('a line without secrets', () => {
  test.each([
    '{"jsonrpc":"2.0","id":1,"method":"credentials.retrieve","params":{"userId":"u","credentialId":1}}',
    '{"jsonrpc":"2.0","id":"k","method":"spend.reserve","params":{"idempotencyKey":"masterKey","apiKey":"token"}}',
    '[{"method":"a"},{"method":"b"},null,[],5]',
    '"token"',
    'null',
    ' \t\r {"a":1} \r',
    '{"__proto__":{"constructor":1},"constructor":null,"":{"":""}}',
    '{"a":1,"a":2,"params":{"b":1},"params":{"b":2}}',
    '{"id":"\\ud800","params":{"name":"\\u0000\\ud83d\\ude00"}}',
  ])('is what JSON.parse makes of it: %s', (text) => {
    const parsed = parse(text)
    expect(parsed.value).toStrictEqual(JSON.parse(text))
    expect(parsed.secrets).toEqual([])
    expect(parsed.issues).toBeNull()
  })

  test('__proto__ stays a member and changes no prototype', () => {
    const { value } = parse('{"__proto__":{"token":"a"},"params":{"__proto__":{"x":1},"token":"b"}}')
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
    expect(Object.keys(value as object)).toEqual(['__proto__', 'params'])
    const { params } = value as { params: object }
    expect(Object.getPrototypeOf(params)).toBe(Object.prototype)
    expect(Object.keys(params)).toEqual(['__proto__', 'token'])
  })

  test.each([
    ['nothing', ''],
    ['white space', ' \r'],
    ['a BOM', '\ufeff{}'],
    ['a BOM before a secret', '\ufeff{"params":{"token":"x"}}'],
    ['half an object', '{"a":'],
    ['two values', '{}{}'],
    ['a comment', '{}//'],
    ['an HTTP request line', 'GET / HTTP/1.1'],
    ['a bad escape', '{"a":"\\x"}'],
    ['an unterminated escape', '{"token\\'],
    ['a bad escape in a name', '{"params":{"tok\\u00zzen":"x"}}'],
    ['a control character', '{"a":"\u0001"}'],
  ])('is refused where it is not JSON: %s', (_, text) => {
    expect(parseLine(lineOf(text))).toBeNull()
  })

  test.each([
    ['0xff', [0xff]],
    ['an overlong quote', [0xc0, 0xa2]],
    ['a surrogate', [0xed, 0xa0, 0x80]],
    ['half a character', [0xe2, 0x82]],
  ])('is refused where it is not UTF-8: %s', (_, bytes) => {
    for (const name of ['name', 'token']) {
      const line = Buffer.concat([
        Buffer.from(`{"params":{"${name}":"`),
        Buffer.from(bytes),
        Buffer.from('"}}'),
      ])
      expect(parseLine(line)).toBeNull()
    }
  })

  test('may be nested as deep as a line can be', () => {
    for (const start of ['', '["token",', '{"params":{"token":']) {
      expect(parseLine(lineOf(start + '['.repeat(65_000)))).toBeNull()
    }
    const parsed = parse(
      `{"params":{"token":"${secretText}","x":${'['.repeat(32_000)}${']'.repeat(32_000)}}}`,
    )
    expect((parsed.value as { params: { token: unknown } }).params.token).toEqual(secret())
  })
})

describe('a secret member', () => {
  test.each([...secretMemberNames])('%s is cut out of params', (name) => {
    const line = lineOf(`{"id":1,"method":"m","params":{"userId":"u","${name}":"${secretText}","z":[1]}}`)
    const parsed = parseLine(line)
    expect(parsed?.value).toStrictEqual({
      id: 1,
      method: 'm',
      params: { userId: 'u', [name]: secret(), z: [1] },
    })
    expect(parsed?.secrets).toEqual([secret()])
    expect(parsed?.issues).toBeNull()
    expect(line.includes(secretText.slice(0, 8))).toBe(false)
    const { bytes } = parsed!.secrets[0]!
    expect(bytes.buffer).not.toBe(line.buffer)
  })

  test.each([...secretMemberNames])('%s is found at any place in the line', (name) => {
    for (const text of [
      `{"params":{"${name}":"${secretText}"}}`,
      `{"params":{"a":"h","${name}" \t: "${secretText}"},"k":"K"}`,
      `{"hhh":"kkk","SSS":["KKK"],"params":{"n":{"${name}x":1},"${name}":"${secretText}"}}`,
      `{"x":"${'kK hS '.repeat(40)}","params":{"${name}":"${secretText}"}}`,
    ]) {
      expect((parse(text).value as { params: object }).params).toMatchObject({ [name]: secret() })
    }
  })

  test('all of them at once', () => {
    const entries = [...secretMemberNames].map((name) => [name, `${name} ${secretText}`] as const)
    const parsed = parse(JSON.stringify({ params: Object.fromEntries(entries) }))
    expect(parsed.value).toEqual({
      params: Object.fromEntries(entries.map(([name, text]) => [name, secret(text)])),
    })
    expect(parsed.secrets).toHaveLength(secretMemberNames.size)
  })

  test('in a batch, beside members that are no requests', () => {
    const parsed = parse(
      `[5,"a,b",{"params":{"token":"one"}},[{"params":{"token":"kept"}}],{"params":[1,{"token":"kept"}]},` +
        `{"x":{},"params":{"token":"two","passphrase":"three"}}]`,
    )
    expect(parsed.value).toEqual([
      5,
      'a,b',
      { params: { token: secret('one') } },
      [{ params: { token: 'kept' } }],
      { params: [1, { token: 'kept' }] },
      { x: {}, params: { token: secret('two'), passphrase: secret('three') } },
    ])
    expect(parsed.secrets).toEqual([secret('one'), secret('two'), secret('three')])
  })

  test('only directly in a member of a request', () => {
    const text = '{"token":"a","params":{"message":{"token":"b"},"list":[{"token":"c"}],"x":"token"}}'
    expect(parse(text).value).toEqual(JSON.parse(text))
    const after = '{"params":{"message":{"a":{}},"token":"deep"}}'
    expect(parse(after).value).toEqual({ params: { message: { a: {} }, token: secret('deep') } })
  })

  test('in another member than params it is cut out and not put back', () => {
    const parsed = parse('{"params":{"a":1},"meta":{"token":"one","x":2}}')
    expect(parsed.value).toEqual({ params: { a: 1 }, meta: { token: '', x: 2 } })
    expect(parsed.secrets).toEqual([secret('one')])
    expect(parsed.issues).toBeNull()
  })

  test.each(['null', '5', 'true', '["x"]', '{"token":"x"}'])('that is no string stays: %s', (value) => {
    const text = `{"params":{"token":${value}}}`
    const parsed = parse(text)
    expect(parsed.value).toEqual(JSON.parse(text))
    expect(parsed.secrets).toEqual([])
    expect(parsed.issues).toBeNull()
  })

  test('may be empty', () => {
    const parsed = parse('{"params":{"token":"","passphrase" : ""}}')
    expect(parsed.value).toEqual({ params: { token: secret(''), passphrase: secret('') } })
  })

  test.each([
    ['\\"\\\\\\/\\b\\f\\n\\r\\t', '"\\/\b\f\n\r\t'],
    ['\\u0000\\u001f\\u007f\\u0080\\u07FF\\u0800\\uffff', '\u0000\u001f\u007f\u0080\u07ff\u0800\uffff'],
    ['\\ud83d\\udE00\\uDBFF\\uDFFF\\uD800\\uDC00', '\u{1f600}\u{10ffff}\u{10000}'],
    ['é€😀', 'é€😀'],
    ['\\\\u0041', '\\u0041'],
    ['"}'.replace('"', '\\"'), '"}'],
  ])('is unescaped: %s', (escaped, text) => {
    expect(parse(`{"params":{"token":"${escaped}"}}`).secrets).toEqual([secret(text)])
  })
})

describe('a malformed secret', () => {
  test.each([
    ['a bad escape', 'secret01\\x'],
    ['a bad hex digit', 'secret01\\u00g0'],
    ['a hex digit that is a control character', 'secret01\\uf\u0011f0'],
    ['an escape cut short', 'secret01\\u00'],
    ['a control character', 'secret01\u0001'],
    ['a tab', 'secret01\t'],
    ['the first half of a pair and half an escape', 'secret01\\ud83d\\ude0'],
    ['the first half and a bad escape', 'secret01\\ud83d\\.de00'],
    ['half a pair and a control character', 'secret01\\ude00\u0001'],
    ['no end', 'secret01\\'],
  ])('makes the line no JSON and leaves nothing behind: %s', (_, inner) => {
    const line = lineOf(`[{"params":{"apiSecret":"${secretText}"}},{"params":{"token":"${inner}"}}]`)
    const made = buffersMadeBy(() => expect(parseLine(line)).toBeNull())
    expect(made.length).toBeGreaterThan(0)
    for (const buffer of made) expect(Buffer.from(buffer).every((byte) => byte === 0)).toBe(true)
  })

  test.each(['}', ',', ' "', '1', '""', ':', ']'])(
    'secrets of a line that goes on wrongly are wiped: %s',
    (rest) => {
      const line = lineOf(`{"params":{"apiSecret":"${secretText}"${rest}`)
      const made = buffersMadeBy(() => expect(parseLine(line)).toBeNull())
      expect(made).toHaveLength(1)
      expect(Buffer.from(made[0]!).every((byte) => byte === 0)).toBe(true)
      expect(line.includes(secretText.slice(0, 8))).toBe(false)
    },
  )
})

describe('half a surrogate pair in a secret', () => {
  test.each([
    ['the first half', '\\ud83d', '\ufffd'],
    ['the first half and no escape', '\\ud83d......', '\ufffd......'],
    ['the first half twice', '\\ud83d\\uD83D', '\ufffd\ufffd'],
    ['the first half and a whole pair', '\\ud83d\\ud83d\\ude00', '\ufffd\u{1f600}'],
    ['the first half and a letter', '\\uDBFF\\u0041', '\ufffdA'],
    ['the first half and a short escape', '\\ud83d\\n00000', '\ufffd\n00000'],
    ['the second half', '\\ude00', '\ufffd'],
    ['the second half twice', '\\ude00\\uDFFF', '\ufffd\ufffd'],
    ['the halves the wrong way round', '\\ude00\\ud83d', '\ufffd\ufffd'],
    ['a pair without the second backslash', '\\ud83d.ude00', '\ufffd.ude00'],
  ])('is an issue of its request alone, and cut out like any other: %s', (_, escaped, text) => {
    const line = lineOf(
      `[{"params":{"apiSecret":"${secretText}"}},{"params":{"token":"secret01${escaped}"}},{"x":{"token":"${escaped}"}}]`,
    )
    const parsed = parseLine(line)!
    const [first, second, third] = parsed.value as object[]
    expect(issuesOf(parsed, first)).toEqual([])
    expect(issuesOf(parsed, second)).toEqual([
      'token: must be well-formed Unicode: it holds half a surrogate pair',
    ])
    expect(issuesOf(parsed, third)).toEqual([])
    expect(parsed.secrets).toEqual([secret(), secret(`secret01${text}`), secret(text)])
    expect(first).toEqual({ params: { apiSecret: secret() } })
    expect(line.includes('secret01')).toBe(false)
    expect(line.includes('\\u')).toBe(false)
  })
})

describe('issues', () => {
  const spelt = 'its name must not be spelt with JSON escapes'
  const twice = 'given more than once'

  test('a name spelt with escapes', () => {
    for (const name of ['api\\u0053ecret', '\\u0061piSecret', 'apiSecre\\u0074']) {
      const parsed = parse(`{"params":{"${name}":"${secretText}"}}`)
      expect(issuesOf(parsed)).toEqual([`apiSecret: ${spelt}`])
      expect(parsed.value).toEqual({ params: { apiSecret: secret() } })
    }
    const long = [...'newMasterKey'].map((letter) => `\\u00${letter.charCodeAt(0).toString(16)}`).join('')
    expect(issuesOf(parse(`{"params":{"${long}":"x"}}`))).toEqual([`newMasterKey: ${spelt}`])
  })

  test('a name spelt with escapes, with another value than a string', () => {
    const parsed = parse('{"params":{"\\u0074oken":5}}')
    expect(parsed.value).toEqual({ params: { token: 5 } })
    expect(issuesOf(parsed)).toEqual([`token: ${spelt}`])
  })

  test('params spelt with escapes hides nothing', () => {
    for (const key of ['p\\u0061rams', '\\u0070arams']) {
      const parsed = parse(`{"${key}":{"token":"${secretText}"}}`)
      expect(parsed.value).toEqual({ params: { token: secret() } })
      expect(parsed.issues).toBeNull()
    }
  })

  test('a name given twice', () => {
    for (const members of [
      '"token":"first","token":"second"',
      '"token":"first","\\u0074oken":"second"',
      '"token":5,"token":"second"',
      '"token":"first","x":1,"token":"second","token":"third"',
    ]) {
      const line = lineOf(`{"params":{${members}}}`)
      const parsed = parseLine(line)!
      expect(issuesOf(parsed)).toContain(`token: ${twice}`)
      expect(parsed.value).toEqual({ params: expect.objectContaining({ token: '' }) })
      expect(parsed.secrets.length).toBeGreaterThan(0)
      expect(line.toString()).not.toMatch(/first|second|third/)
    }
    const last = parse('{"params":{"token":"first","token":5}}')
    expect(last.value).toEqual({ params: { token: 5 } })
    expect(issuesOf(last)).toEqual([`token: ${twice}`])
  })

  test('a name given in two members of one request', () => {
    expect(issuesOf(parse('{"params":{"token":"a"},"x":{"token":"b"}}'))).toEqual([`token: ${twice}`])
    expect(issuesOf(parse('{"x":{"token":"b"},"params":{"token":"a"}}'))).toEqual([`token: ${twice}`])
  })

  test('params given twice', () => {
    for (const [text, params] of [
      ['{"params":{"token":"a"},"params":{"x":1}}', { x: 1 }],
      ['{"params":{"x":1},"params":{"token":"a"}}', { token: '' }],
      ['{"params":{"token":"a"},"p\\u0061rams":5}', 5],
      ['{"params":null,"params":{"token":"a"}}', { token: '' }],
      ['{"params":{"token":5},"params":{"x":1}}', { x: 1 }],
      ['{"params":{"token":"a"},"params":{"passphrase":"b"}}', { passphrase: '' }],
    ] as const) {
      const parsed = parse(text)
      expect(issuesOf(parsed)).toEqual([`params: ${twice}`])
      expect(parsed.value).toEqual({ params })
    }
    expect(parse('{"params":{"x":1},"params":{"x":2}}').issues).toBeNull()
  })

  test('belong to their request of a batch', () => {
    const parsed = parse(
      '[{"params":{"token":"a"}},{"params":{"token":"b","token":"c"}},1,{"params":{"to\\u006ben":"d"}}]',
    )
    const [first, second, , fourth] = parsed.value as object[]
    expect(issuesOf(parsed, first)).toEqual([])
    expect(issuesOf(parsed, second)).toEqual([`token: ${twice}`])
    expect(issuesOf(parsed, fourth)).toEqual([`token: ${spelt}`])
    expect(parsed.issues?.size).toBe(2)
    expect(first).toEqual({ params: { token: secret('a') } })
  })

  test('are few, however often a name is given', () => {
    const parsed = parse(`{"params":{"token":"a"${',"\\u0074oken":"a"'.repeat(2_000)}}}`)
    expect(issuesOf(parsed)).toEqual([`token: ${spelt}`, `token: ${twice}`])
  })
})

describe('what resembles a placeholder', () => {
  test('is data and shifts nothing', () => {
    const text = `{"a":{"$secret":0},"b":"[secret]","params":{"x":{"$secret":0},"apiKey":"","token":"${secretText}","y":""}}`
    expect(parse(text).value).toEqual({
      a: { $secret: 0 },
      b: '[secret]',
      params: { x: { $secret: 0 }, apiKey: '', token: secret(), y: '' },
    })
  })
})
