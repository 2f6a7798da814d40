import type { ParamIssue } from '../errors.ts'
import { SecretBytes } from '../secret.ts'
import { type UnescapedSecret, unescapeSecret } from './secret-json-string.ts'

/** Finds the secret members of a line of JSON and cuts their values out, on the bytes alone. */

/** Members whose string values never become JavaScript strings, where they stand directly in a request's `params`. */
export const secretMemberNames: ReadonlySet<string> = new Set([
  'apiSecret',
  'passphrase',
  'privateKey',
  'masterKey',
  'newMasterKey',
  'token',
])

const space = 0x20
const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const colon = 0x3a
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

type Mark = {
  readonly letter: number
  readonly next: number
  readonly before: readonly number[]
  readonly after: number
}

/** A letter that is rare in requests, the one that follows it, and how far off the quotes around `names` stand. */
function mark(letter: string, ...names: readonly [string, ...string[]]): Mark {
  const at = names[0].indexOf(letter)
  return {
    letter: letter.charCodeAt(0),
    next: names[0].charCodeAt(at + 1),
    before: names.map((name) => name.indexOf(letter) + 1),
    after: names[0].length - at,
  }
}

/** One for each name of secretMemberNames; those marked by one letter end alike after it. */
const secretMark = mark('S', 'apiSecret')
const phraseMark = mark('h', 'passphrase')
const keyMark = mark('K', 'privateKey', 'masterKey', 'newMasterKey')
const tokenMark = mark('k', 'token')

/** So many marks of a kind are looked at, a call each; beyond that a scan of the whole line costs less. */
const maxMarks = 32

/** How an escape begins that can spell a letter; the others (`\\n`, `\\"`) are no letters. */
const unicodeEscape = Buffer.from('\\u')

/** Node's own Buffer.indexOf goes through JavaScript: three times slower without the JIT. */
const indexOfByte: (this: Uint8Array, byte: number, from?: number) => number = Uint8Array.prototype.indexOf

/**
 * False where no member of `line` can have a secret name, however spelt: it holds neither such a name in quotes nor
 * an escape that spells a letter. A few native searches; nearly every request ends here.
 */
export function mayHoldSecrets(line: Buffer): boolean {
  return (
    (indexOfByte.call(line, backslash) >= 0 && line.includes(unicodeEscape)) ||
    mayHold(line, secretMark) ||
    mayHold(line, phraseMark) ||
    mayHold(line, keyMark) ||
    mayHold(line, tokenMark)
  )
}

function mayHold(line: Buffer, mark: Mark): boolean {
  const { letter, next, before, after } = mark
  let looks = 0
  for (let at = indexOfByte.call(line, letter); at >= 0; at = indexOfByte.call(line, letter, at + 1)) {
    if (line[at + after] === quote && line[at + 1] === next) {
      for (let i = 0; i < before.length; i++) if (line[at - before[i]!] === quote) return true
    }
    if (++looks > maxMarks) return true
  }
  return false
}

/** A secret name met in a request. `value` is null where no string was cut out. */
type SecretMember = {
  readonly name: string
  readonly value: SecretBytes | null
  inParams: boolean
  spelt: 'plainly' | 'with escapes'
  /** False where a value of it is half a surrogate pair somewhere, and so no text. */
  isWellFormed: boolean
  times: number
}

/** What a scan met in one request: the top-level object, or an object in the top-level array. */
export type ScannedRequest = {
  /** Its place in the top-level array. */
  readonly index: number
  /** How many members named `params` it has. */
  paramsCount: number
  readonly members: SecretMember[]
}

/** What was cut out of a line. */
export type Cut = {
  /** The line is an array of requests. */
  readonly batch: boolean
  /** Everything cut out, for wiping. */
  readonly secrets: readonly SecretBytes[]
  /** Those requests that have a member with a secret name. */
  readonly requests: readonly ScannedRequest[]
}

/**
 * Cuts out of `line` (valid UTF-8) every string that is the value of a member with a secret name, directly in an
 * object that is a member of a request; an empty string and spaces take its place, so that the line stays the JSON it
 * was. Null, with what was cut wiped, where such a string or any string of the line is not JSON. Other faults are for
 * JSON.parse to find; until it has accepted the line, what is answered here means nothing.
 */
export function cutSecrets(line: Buffer): Cut | null {
  const scan = new Scan(line)
  if (scan.run()) return scan
  for (const secret of scan.secrets) secret.wipe()
  return null
}

class Scan implements Cut {
  readonly batch: boolean
  readonly secrets: SecretBytes[] = []
  readonly requests: ScannedRequest[] = []
  readonly #line: Buffer
  /** Objects and arrays open around a request. */
  readonly #outer: number
  #depth = 0
  #index = 0
  #request: ScannedRequest | null = null
  /** The member of the request met last is named `params`. */
  #inParams = false

  constructor(line: Buffer) {
    this.#line = line
    this.batch = line[skipSpace(line, 0)] === openBracket
    this.#outer = this.batch ? 1 : 0
  }

  /** False where the line is not JSON. */
  run(): boolean {
    const line = this.#line
    for (let at = 0; at < line.length; ) {
      const byte = line[at]!
      if (byte === quote) {
        at = this.#string(at)
        if (at < 0) return false
        continue
      }
      if (byte === openBrace || byte === openBracket) this.#open(byte === openBrace)
      else if (byte === closeBrace || byte === closeBracket) this.#depth--
      else if (byte === comma && this.#depth === 1) this.#index++
      at++
    }
    return true
  }

  #open(isObject: boolean): void {
    if (this.#depth === this.#outer) {
      this.#request = isObject ? { index: this.#index, paramsCount: 0, members: [] } : null
    }
    this.#depth++
  }

  /** Takes the string that opens at `start`. Answers where to go on, -1 where it is not JSON. */
  #string(start: number): number {
    const line = this.#line
    const end = stringEnd(line, start)
    if (end < 0) return -1
    const level = this.#depth - this.#outer
    const request = this.#request
    if (request === null || level > 2) return end + 1
    const next = skipSpace(line, end + 1)
    // What a colon follows is a name: that of a member of the request on level 1, of a member of such a one on level 2.
    if (line[next] !== colon) return next
    const raw = rawName(line, start + 1, end)
    const name = raw.includes('\\') ? unescapeName(raw) : raw
    if (level === 1) {
      this.#inParams = name === 'params'
      if (this.#inParams) request.paramsCount++
      return next + 1
    }
    if (!secretMemberNames.has(name)) return next + 1
    const value = skipSpace(line, next + 1)
    let cut: UnescapedSecret | null = null
    if (line[value] === quote) {
      cut = this.#cutString(value)
      if (cut === null) return -1
    }
    this.#note(request, name, name === raw, cut)
    return value
  }

  #cutString(start: number): UnescapedSecret | null {
    const line = this.#line
    const end = stringEnd(line, start)
    const cut = end < 0 ? null : unescapeSecret(line, start + 1, end)
    if (cut === null) return null
    line.fill(space, start + 1, end + 1)
    line[start + 1] = quote
    return cut
  }

  #note(request: ScannedRequest, name: string, isPlain: boolean, cut: UnescapedSecret | null): void {
    const value = cut === null ? null : new SecretBytes(cut.bytes)
    if (value !== null) this.secrets.push(value)
    let member = request.members.find((met) => met.name === name)
    if (member === undefined) {
      if (request.members.length === 0) this.requests.push(request)
      const inParams = this.#inParams
      member = { name, value, inParams, spelt: 'plainly', isWellFormed: true, times: 0 }
      request.members.push(member)
    }
    member.times++
    if (!isPlain) member.spelt = 'with escapes'
    if (cut?.isWellFormed === false) member.isWellFormed = false
    if (this.#inParams) member.inParams = true
  }
}

/** What is wrong with the secret members of `request`: at most three issues a name, and one for `params`. */
export function memberIssues(request: ScannedRequest): ParamIssue[] {
  const issues: ParamIssue[] = []
  for (const { name, inParams, spelt, isWellFormed, times } of request.members) {
    // In params alone: what else a request holds is not looked at, and a value there is as good as none.
    if (inParams && !isWellFormed)
      issues.push({ path: name, message: 'must be well-formed Unicode: it holds half a surrogate pair' })
    if (spelt === 'with escapes')
      issues.push({ path: name, message: 'its name must not be spelt with JSON escapes' })
    if (times > 1) issues.push({ path: name, message: 'given more than once' })
  }
  if (request.paramsCount > 1 && request.members.some((member) => member.inParams)) {
    issues.push({ path: 'params', message: 'given more than once' })
  }
  return issues
}

/** Index of the quote that closes the string opened at `start`; -1 where none does. */
function stringEnd(line: Buffer, start: number): number {
  for (let at = start + 1; at < line.length; at++) {
    const byte = line[at]
    if (byte === quote) return at
    if (byte === backslash) at++
  }
  return -1
}

function skipSpace(line: Buffer, start: number): number {
  let at = start
  while (line[at] === space || line[at] === 0x0a || line[at] === 0x0d || line[at] === 0x09) at++
  return at
}

/** The longest spelling of the longest name that matters: every letter as `\uXXXX`. */
const longestSpelling = 6 * 'newMasterKey'.length

/** The member name between `start` and `end` as it stands there; empty where it is too long to matter. */
function rawName(line: Buffer, start: number, end: number): string {
  return end - start > longestSpelling ? '' : line.toString('latin1', start, end)
}

function unescapeName(raw: string): string {
  try {
    return String(JSON.parse(`"${raw}"`))
  } catch {
    // Then the line is not JSON either.
    return ''
  }
}
