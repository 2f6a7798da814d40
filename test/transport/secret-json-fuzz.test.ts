import { isDeepStrictEqual } from 'node:util'
import { describe, expect, test } from 'vitest'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import {
  encodeFrame,
  type ParsedLine,
  parseLine,
  secretMemberNames,
} from '../../src/transport/secret-json.ts'
import { type Expected, expectedOf } from './secret-json-oracle.ts'

const seed = Number(process.env['PURSER_TEST_SEED'] ?? Date.now() % 2 ** 31)

/** mulberry32: the same numbers for the same seed. */
class Random {
  #state: number

  constructor(state: number) {
    this.#state = state
  }

  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound)
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!
  }

  chance(percent: number): boolean {
    return this.below(100) < percent
  }

  many<T>(atMost: number, make: () => T): T[] {
    return Array.from({ length: this.below(atMost + 1) }, make)
  }
}

/** Random JSON text. `names` are those a member may have, as written in the line. */
class JsonWriter {
  readonly #random: Random
  readonly #names: readonly string[]

  constructor(random: Random, names: readonly string[]) {
    this.#random = random
    this.#names = names
  }

  space(): string {
    return this.#random.chance(70)
      ? ''
      : this.#random.many(3, () => this.#random.pick([' ', '\t', '\r'])).join('')
  }

  line(): string {
    const top = this.#random.below(10)
    if (top < 5) return this.#list('{', '}', 5, () => this.#member(1))
    if (top < 9) return this.#list('[', ']', 4, () => this.value(1))
    return this.value(4)
  }

  value(depth: number): string {
    const kind = this.#random.below(depth < 4 ? 10 : 6)
    if (kind < 3) return this.string()
    if (kind < 6)
      return this.#random.pick(['0', '-1.5e+3', '12', 'true', 'null', '1E400', '9007199254740993'])
    if (kind < 9) return this.#list('{', '}', 4, () => this.#member(depth + 1))
    return this.#list('[', ']', 4, () => this.value(depth + 1))
  }

  string(): string {
    const parts = this.#random.many(5, () => {
      if (this.#random.chance(40)) return this.#random.pick([...secretMemberNames, 'params', 'K', 'hS', 'ke'])
      return this.#random.pick([
        'é',
        '😀',
        '\u2028',
        '\\"',
        '\\\\',
        '\\/',
        '\\n',
        '\\u0041',
        '\\uD83D\\uDE00',
        '\\ud800',
        '\\uDfff\\uD83d',
        '\\\\u0074',
        '{}[],:',
        ' ',
        '\ufffd',
        '\\u0000',
      ])
    })
    return `"${parts.join('')}"`
  }

  #member(depth: number): string {
    const name = this.#random.chance(90) ? this.#random.pick(this.#names) : this.string().slice(1, -1)
    return `"${name}"${this.space()}:${this.space()}${this.value(depth)}`
  }

  #list(open: string, close: string, atMost: number, item: () => string): string {
    const items = this.#random.many(atMost, () => `${this.space()}${item()}${this.space()}`)
    return `${this.space()}${open}${items.length > 0 ? items.join(',') : this.space()}${close}${this.space()}`
  }
}

const plainNames = [
  'id',
  'method',
  '__proto__',
  'constructor',
  '',
  'apiKey',
  'tokenId',
  'maker',
  'ha\\u0073h',
  'a',
]
const paramsNames = ['params', 'params', 'params', 'p\\u0061rams', '__proto__']
const secretNames = [
  ...secretMemberNames,
  'token',
  'token',
  't\\u006Fken',
  'api\\u0053ecret',
  'Token',
  'tokenX',
]

/** Changes a few bytes, so that much of it is still read before it goes wrong. */
function mutate(random: Random, line: Buffer): Buffer {
  let bytes = [...line]
  for (let times = 1 + random.below(3); times > 0; times--) {
    const at = random.below(bytes.length + 1)
    const kind = random.below(6)
    if (kind === 0) bytes.splice(at, 1 + random.below(3))
    else if (kind === 1) bytes.splice(at, 0, random.below(256))
    else if (kind === 2) bytes[at] = random.below(256)
    else if (kind === 3)
      bytes.splice(at, 0, ...Buffer.from(random.pick(['"', '\\', ',', ':', '{', '}', '[', ']', ' '])))
    else if (kind === 4) bytes.splice(at, 0, ...bytes.slice(at, at + random.below(30)))
    else if (random.chance(20)) bytes = [...Buffer.from('\ufeff'), ...bytes]
    else bytes.length = Math.min(at, bytes.length)
  }
  return Buffer.from(bytes)
}

function kindOf(message: string): string {
  if (message.includes('more than once')) return 'twice'
  return message.includes('surrogate') ? 'halved' : 'escaped'
}

function agrees(parsed: ParsedLine, expected: Expected): boolean {
  if (parsed === null || expected === null) return parsed === null && expected === null
  const secrets = parsed.secrets.map(({ bytes }) => bytes.toString())
  const issues = new Map<number, readonly string[]>()
  for (const [request, found] of parsed.issues ?? []) {
    const index = Array.isArray(parsed.value)
      ? parsed.value.indexOf(request)
      : parsed.value === request
        ? 0
        : -1
    issues.set(index, found.map(({ path, message }) => `${path} ${kindOf(message)}`).sort())
  }
  return (
    isDeepStrictEqual(parsed.value, expected.value) &&
    isDeepStrictEqual(secrets, expected.secrets) &&
    isDeepStrictEqual(issues, expected.issues) &&
    (parsed.issues === null) === (issues.size === 0)
  )
}

/** Compares parseLine with the oracle on `line`. Answers what the line was. */
function compare(line: Buffer): 'refused' | 'plain' | 'with secrets' {
  const expected = expectedOf(line)
  const parsed = parseLine(offHeapCopy(line))
  if (!agrees(parsed, expected)) {
    throw new Error(`seed ${seed}: parseLine and the oracle differ on base64 ${line.toString('base64')}`)
  }
  return expected === null ? 'refused' : expected.secrets.length > 0 ? 'with secrets' : 'plain'
}

/** Runs `count` lines, whole and mutated, and counts what they were. */
function compareMany(count: number, names: readonly string[], salt: number): Record<string, number> {
  const random = new Random(seed + salt)
  const writer = new JsonWriter(random, names)
  const seen: Record<string, number> = { refused: 0, plain: 0, 'with secrets': 0 }
  for (let i = 0; i < count; i++) {
    const line = Buffer.from(writer.line())
    seen[compare(line)]!++
    seen[compare(mutate(random, line))]!++
  }
  return seen
}

describe('parseLine against JSON.parse and the oracle', () => {
  test('lines without secret members', { timeout: 60_000 }, () => {
    const seen = compareMany(12_000, [...plainNames, 'params'], 0)
    expect(seen['refused']).toBeGreaterThan(3_000)
    expect(seen['plain']).toBeGreaterThan(10_000)
  })

  test('lines with secret members, rightly and wrongly given', { timeout: 60_000 }, () => {
    const seen = compareMany(12_000, [...paramsNames, ...paramsNames, ...secretNames, 'x'], 1)
    expect(seen['refused']).toBeGreaterThan(3_000)
    expect(seen['with secrets']).toBeGreaterThan(1_000)
  })

  test('bytes that are no JSON at all', { timeout: 60_000 }, () => {
    const random = new Random(seed + 2)
    const alphabet = Buffer.from('{}[]",:\\u0074token"params"1e\u00e9')
    for (let i = 0; i < 5_000; i++) {
      compare(
        Buffer.from(
          random.many(40, () => (random.chance(3) ? random.below(256) : random.pick([...alphabet]))),
        ),
      )
    }
  })
})

const secretPieces = [
  '"',
  '\\',
  '\u0000',
  '\u001f',
  '\n',
  '/',
  '\u007f',
  'é',
  '€',
  '😀',
  '\u{10ffff}',
  '\ufffd',
  'u2603',
  '}',
  ' ',
]

function secretText(random: Random): string {
  const letters = random.many(60, () =>
    random.chance(60) ? String.fromCharCode(0x21 + random.below(94)) : random.pick(secretPieces),
  )
  return letters.join('')
}

const shortEscapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '/': '\\/',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
}

/** `text` as a JSON string, each character spelt in one of the ways JSON knows. */
function spell(random: Random, text: string): string {
  let spelt = ''
  for (const character of text) {
    const short = shortEscapes[character]
    const mustEscape = character < ' ' || character === '"' || character === '\\'
    if (short !== undefined && random.chance(mustEscape ? 70 : 30)) spelt += short
    else if (!mustEscape && random.chance(70)) spelt += character
    else {
      for (let i = 0; i < character.length; i++) {
        const hex = character.charCodeAt(i).toString(16).padStart(4, '0')
        spelt += `\\u${random.chance(50) ? hex : hex.toUpperCase()}`
      }
    }
  }
  return `"${spelt}"`
}

/** One request with secrets in its params: its text, and its params as they should come out. */
function requestWithSecrets(random: Random): {
  text: string
  params: Record<string, unknown>
  secrets: string[]
} {
  const writer = new JsonWriter(random, plainNames)
  const params: Record<string, unknown> = {}
  const secrets: string[] = []
  const members: string[] = []
  for (const name of [...secretMemberNames, 'a', 'b', 'c'].sort(() => random.below(3) - 1)) {
    if (random.chance(40)) continue
    const text = secretMemberNames.has(name) ? secretText(random) : ''
    const value = secretMemberNames.has(name) ? spell(random, text) : writer.value(2)
    if (secretMemberNames.has(name)) {
      params[name] = new SecretBytes(offHeapCopy(Buffer.from(text)))
      secrets.push(text)
    } else params[name] = JSON.parse(value)
    members.push(`${writer.space()}"${name}"${writer.space()}:${writer.space()}${value}${writer.space()}`)
  }
  const outer = [`"x":[${writer.value(2)}]`, `"params":${writer.space()}{${members.join(',')}}`]
  if (random.chance(50)) outer.reverse()
  return { text: `${writer.space()}{${outer.join(',')}}${writer.space()}`, params, secrets }
}

describe('secrets there and back', () => {
  test('come out of the line byte for byte, and nothing of them stays in it', { timeout: 60_000 }, () => {
    const random = new Random(seed + 3)
    for (let i = 0; i < 4_000; i++) {
      const requests = [requestWithSecrets(random), ...random.many(3, () => requestWithSecrets(random))]
      const isBatch = requests.length > 1 || random.chance(30)
      const joined = requests.map(({ text }) => text).join(',')
      const line = offHeapCopy(Buffer.from(isBatch ? `[${joined}]` : joined))
      const parsed = parseLine(line)
      const hint = `seed ${seed}, line ${i}`
      expect(parsed, hint).not.toBeNull()
      const values = (isBatch ? parsed!.value : [parsed!.value]) as { params: unknown }[]
      const params = values.map((request) => request.params)
      if (
        !isDeepStrictEqual(
          params,
          requests.map((request) => request.params),
        )
      )
        throw new Error(hint)
      const secrets = requests.flatMap((request) => request.secrets)
      expect(
        secrets.every((text, at) => parsed!.secrets[at]?.bytes.equals(Buffer.from(text))),
        hint,
      ).toBe(true)
      expect(isLeftIn(line, secrets), hint).toBe(false)
    }
  })

  test('go into a frame and come out of it', { timeout: 60_000 }, () => {
    const random = new Random(seed + 4)
    const writer = new JsonWriter(random, plainNames)
    for (let i = 0; i < 4_000; i++) {
      const plain: unknown[] = []
      const answers = [0, ...random.many(3, () => 0)].map((_, id) => {
        const texts = random.many(4, () => secretText(random))
        const data: unknown = JSON.parse(JSON.stringify(JSON.parse(writer.value(2))))
        plain.push({ id, data, list: texts, more: texts.map((text) => ({ text, data })) })
        const secrets = texts.map((text) => new SecretBytes(offHeapCopy(Buffer.from(text))))
        return { id, data, list: secrets, more: secrets.map((text) => ({ text, data })) }
      })
      const { bytes, hasSecrets } = encodeFrame(answers)
      const lines = bytes.toString().split('\n')
      const hint = `seed ${seed}, frame ${i}`
      expect(lines.pop(), hint).toBe('')
      if (
        !isDeepStrictEqual(
          lines.map((line) => JSON.parse(line)),
          plain,
        )
      )
        throw new Error(hint)
      expect(hasSecrets, hint).toBe(answers.some(({ list }) => list.length > 0))
    }
  })
})

/** Whether eight bytes of a secret on end are still in `line`; runs that other members hold as well are not meant. */
function isLeftIn(line: Buffer, secrets: readonly string[]): boolean {
  return secrets.some((secret) => {
    const bytes = Buffer.from(secret)
    for (let at = 0; at + 8 <= bytes.length; at++) {
      const run = bytes.subarray(at, at + 8)
      if (/[a-z0-9].*[a-z0-9].*[a-z0-9]/i.test(run.toString('latin1')) && line.includes(run)) return true
    }
    return false
  })
}
