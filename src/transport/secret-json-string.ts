import { offHeap, type SecretBytes } from '../secret.ts'

/** JSON string bytes to secret bytes and back, without a JavaScript string in between. */

const quote = 0x22
const backslash = 0x5c
const letterU = 0x75
const replacement = 0xfffd
const hexDigits = Buffer.from('0123456789abcdef')

/** What stands after a backslash, `u` aside, and the byte it means; 0: no JSON escape. */
const escapes = new Uint8Array(256)
for (const [letter, meaning] of ['""', '\\\\', '//', 'b\b', 'f\f', 'n\n', 'r\r', 't\t']) {
  escapes[letter!.charCodeAt(0)] = meaning!.charCodeAt(0)
}

/** What a JSON string stands for, in off-heap memory. Half a surrogate pair is JSON and no text: U+FFFD takes its place. */
export type UnescapedSecret = { readonly bytes: Buffer; readonly isWellFormed: boolean }

/**
 * The bytes that the JSON string between `start` and `end` (its quotes excluded, the line valid UTF-8) stands for;
 * null where JSON has no such string.
 */
export function unescapeSecret(line: Buffer, start: number, end: number): UnescapedSecret | null {
  // An escape is never shorter than what it stands for, U+FFFD for half a pair included.
  const out = offHeap(end - start)
  let length = 0
  let isWellFormed = true
  for (let at = start; at < end; ) {
    const byte = line[at]!
    if (byte < 0x20) return discard(out)
    if (byte !== backslash) {
      out[length++] = byte
      at++
      continue
    }
    const letter = line[at + 1]!
    if (letter !== letterU) {
      const meaning = escapes[letter]!
      if (meaning === 0) return discard(out)
      out[length++] = meaning
      at += 2
      continue
    }
    const point = codePoint(line, at)
    if (point < 0) return discard(out)
    const isHalf = point >= 0xd800 && point <= 0xdfff
    if (isHalf) isWellFormed = false
    length = writeUtf8(out, length, isHalf ? replacement : point)
    at += point < 0x10000 ? 6 : 12
  }
  return { bytes: length === out.length ? out : out.subarray(0, length), isWellFormed }
}

function discard(out: Buffer): null {
  out.fill(0)
  return null
}

/** The code point that the `\uXXXX` at `at`, or the pair of them, stands for; half a pair is itself, -1 no escape. */
function codePoint(line: Buffer, at: number): number {
  const unit = hexUnit(line, at + 2)
  if (unit < 0xd800 || unit > 0xdbff || line[at + 6] !== backslash || line[at + 7] !== letterU) return unit
  const low = hexUnit(line, at + 8)
  // What does not complete the pair stands for itself and is read, or refused, in its turn.
  return low < 0xdc00 || low > 0xdfff ? unit : 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
}

/** The four hex digits at `at`; -1 where they are none, as where the string ends before: its quote is no digit. */
function hexUnit(line: Buffer, at: number): number {
  let unit = 0
  for (let i = at; i < at + 4; i++) {
    const byte = line[i]!
    const lower = byte | 0x20
    if (byte >= 0x30 && byte <= 0x39) unit = unit * 16 + byte - 0x30
    else if (lower >= 0x61 && lower <= 0x66) unit = unit * 16 + lower - 0x57
    else return -1
  }
  return unit
}

function writeUtf8(out: Buffer, at: number, point: number): number {
  if (point < 0x80) {
    out[at] = point
    return at + 1
  }
  if (point < 0x800) {
    out[at] = 0xc0 | (point >> 6)
    out[at + 1] = 0x80 | (point & 63)
    return at + 2
  }
  if (point < 0x10000) {
    out[at] = 0xe0 | (point >> 12)
    out[at + 1] = 0x80 | ((point >> 6) & 63)
    out[at + 2] = 0x80 | (point & 63)
    return at + 3
  }
  out[at] = 0xf0 | (point >> 18)
  out[at + 1] = 0x80 | ((point >> 12) & 63)
  out[at + 2] = 0x80 | ((point >> 6) & 63)
  out[at + 3] = 0x80 | (point & 63)
  return at + 4
}

/** By how much a byte grows when it is written into a JSON string. */
const growth = new Uint8Array(256)
growth.fill(5, 0, 0x20)
growth[quote] = 1
growth[backslash] = 1

/**
 * Secrets known to hold nothing that JSON escapes: an opened credential is answered many times over, and without the
 * JIT this look at every byte is half of encoding an answer.
 */
const plainSecrets = new WeakSet<SecretBytes>()

/** Length of `secret` inside a JSON string, without the quotes. Bytes at most. */
export function escapedLength(secret: SecretBytes): number {
  const { bytes } = secret
  // A first byte of 0 is what wiping leaves of a secret that was plain before.
  if (bytes[0] !== 0 && plainSecrets.has(secret)) return bytes.length
  let length = bytes.length
  for (let at = 0; at < bytes.length; at++) length += growth[bytes[at]!]!
  if (length === bytes.length) plainSecrets.add(secret)
  return length
}

/** Writes `bytes` as the inside of a JSON string at `at`; `length` is its escapedLength. Answers where it ends. */
export function writeEscaped(out: Buffer, at: number, bytes: Buffer, length: number): number {
  if (length === bytes.length) {
    out.set(bytes, at)
    return at + length
  }
  let end = at
  for (const byte of bytes) {
    const grown = growth[byte]!
    if (grown > 0) out[end++] = backslash
    if (grown < 5) {
      out[end++] = byte
      continue
    }
    out[end++] = letterU
    out[end++] = 0x30
    out[end++] = 0x30
    out[end++] = hexDigits[byte >> 4]!
    out[end++] = hexDigits[byte & 15]!
  }
  return end
}
