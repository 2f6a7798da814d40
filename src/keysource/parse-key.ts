import { offHeap } from '../secret.ts'

/** A master key: 32 bytes off the V8 heap. Whoever gets one wipes it. */
export type MasterKeyBytes = Buffer

/** Bytes of a master key. */
export const masterKeyBytes = 32

const hexLength = 64
/** Base64 of 32 bytes without its one padding character. */
const base64Length = 43

const equalsSign = 0x3d

function isWhiteSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)
}

function trim(text: Buffer): Buffer {
  let start = 0
  let end = text.length
  while (start < end && isWhiteSpace(text[start]!)) start += 1
  while (end > start && isWhiteSpace(text[end - 1]!)) end -= 1
  return text.subarray(start, end)
}

/** The value of a hexadecimal digit, or -1. */
function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1
}

/** The value of a base64 or base64url digit, or -1. */
function base64Digit(byte: number): number {
  if (byte >= 0x41 && byte <= 0x5a) return byte - 0x41
  if (byte >= 0x61 && byte <= 0x7a) return byte - 0x61 + 26
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30 + 52
  if (byte === 0x2b || byte === 0x2d) return 62
  return byte === 0x2f || byte === 0x5f ? 63 : -1
}

/** Fills `key` from hex; false where a digit is none. */
function decodeHex(digits: Buffer, key: Buffer): boolean {
  for (let i = 0; i < key.length; i += 1) {
    const high = hexDigit(digits[2 * i]!)
    const low = hexDigit(digits[2 * i + 1]!)
    if (high < 0 || low < 0) return false
    key[i] = high * 16 + low
  }
  return true
}

/** Fills `key` from base64 without padding; false where a digit is none or the bits left over are not zero. */
function decodeBase64(digits: Buffer, key: Buffer): boolean {
  let bits = 0
  let bitCount = 0
  let length = 0
  for (const byte of digits) {
    const value = base64Digit(byte)
    if (value < 0) return false
    bits = ((bits << 6) | value) & 0xfff
    bitCount += 6
    if (bitCount >= 8) {
      bitCount -= 8
      key[length] = bits >> bitCount
      length += 1
    }
  }
  // Left-over bits would give one key several spellings; a set one means that the text was cut or mistyped.
  return (bits & ((1 << bitCount) - 1)) === 0
}

function mixesAlphabets(digits: Buffer): boolean {
  const standard = digits.includes(0x2b) || digits.includes(0x2f)
  return standard && (digits.includes(0x2d) || digits.includes(0x5f))
}

/**
 * Reads 32 bytes written as hex, base64 or base64url (padding optional), white space around them trimmed, or null
 * where `text` is nothing of that. Works on bytes alone, so that no string of the key is made; `text` stays the
 * caller's to wipe.
 */
export function parseMasterKey(text: Buffer): MasterKeyBytes | null {
  const trimmed = trim(text)
  const padded = trimmed.length === base64Length + 1 && trimmed[base64Length] === equalsSign
  const digits = padded ? trimmed.subarray(0, base64Length) : trimmed
  const key = offHeap(masterKeyBytes)
  if (digits.length === hexLength && decodeHex(digits, key)) return key
  if (digits.length === base64Length && !mixesAlphabets(digits) && decodeBase64(digits, key)) return key
  key.fill(0)
  return null
}

const base64Alphabet = Buffer.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/')

/** The key as padded base64 (44 characters), off the V8 heap. The caller wipes it. */
export function encodeMasterKeyBase64(key: MasterKeyBytes): Buffer {
  const text = offHeap(base64Length + 1)
  for (let i = 0; i < base64Length; i += 1) {
    const bit = i * 6
    const at = bit >> 3
    // Two bytes hold any six bits; beyond the last byte come zeros.
    const pair = (key[at]! << 8) | (key[at + 1] ?? 0)
    text[i] = base64Alphabet[(pair >> (10 - (bit & 7))) & 63]!
  }
  text[base64Length] = equalsSign
  return text
}

/** The key as 64 hex digits and a line feed, off the V8 heap: what a key file holds. The caller wipes it. */
export function encodeMasterKey(key: MasterKeyBytes): Buffer {
  const text = offHeap(hexLength + 1)
  const digit = (value: number) => (value < 10 ? 0x30 + value : 0x61 + value - 10)
  for (let i = 0; i < masterKeyBytes; i += 1) {
    text[2 * i] = digit(key[i]! >> 4)
    text[2 * i + 1] = digit(key[i]! & 15)
  }
  text[hexLength] = 0x0a
  return text
}
