import { invalidParams } from '../../errors.ts'
import { offHeap } from '../../secret.ts'
import { isValidPrivateKey } from '../../signer/address.ts'

/** Longest API secret taken; the exchange's are 44 characters. */
const apiSecretBytesMax = 1024

/** Value of each base64 and base64url digit, 255 for any other byte. */
const digitValues = new Uint8Array(256).fill(255)
for (const [index, digit] of [
  ...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789',
].entries()) {
  digitValues[digit.charCodeAt(0)] = index
}
for (const [digit, value] of [
  ['+', 62],
  ['-', 62],
  ['/', 63],
  ['_', 63],
] as const) {
  digitValues[digit.charCodeAt(0)] = value
}

const equalsSign = 0x3d
const standardDigits = [0x2b, 0x2f]
const urlDigits = [0x2d, 0x5f]

/**
 * The API secret as it is kept: padded base64url. Takes base64 or base64url with or without padding whose last digit
 * holds no stray bits, because clients decode it in different ways and agree on nothing else. The caller wipes the
 * result. InvalidParams otherwise.
 */
export function canonicalApiSecret(given: Buffer): Buffer {
  const refuse = () => invalidParams('apiSecret', 'must be base64 or base64url, as the exchange gave it')
  if (given.length === 0 || given.length > apiSecretBytesMax) throw refuse()
  let digits = given.length
  while (digits > 0 && given[digits - 1] === equalsSign) digits--
  const padding = given.length - digits
  if (digits === 0 || digits % 4 === 1 || (padding > 0 && given.length % 4 !== 0) || padding > 2)
    throw refuse()
  if (standardDigits.some((d) => given.includes(d)) && urlDigits.some((d) => given.includes(d)))
    throw refuse()
  for (let index = 0; index < digits; index++) if (digitValues[given[index]!] === 255) throw refuse()
  const last = digitValues[given[digits - 1]!]!
  if ((digits % 4 === 2 && (last & 0x0f) !== 0) || (digits % 4 === 3 && (last & 0x03) !== 0)) throw refuse()
  const kept = offHeap(Math.ceil(digits / 4) * 4).fill(equalsSign)
  for (let index = 0; index < digits; index++) {
    const byte = given[index]!
    kept[index] =
      byte === standardDigits[0] ? urlDigits[0]! : byte === standardDigits[1] ? urlDigits[1]! : byte
  }
  return kept
}

function hexValue(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : 255
}

/**
 * The 32 bytes of a private key written as 64 hex digits, with or without 0x, in 1..n-1 of secp256k1. The caller wipes
 * them. InvalidParams otherwise.
 */
export function parsePrivateKey(given: Buffer): Buffer {
  const refuse = () => invalidParams('privateKey', 'must be 0x and 64 hex digits, a secp256k1 key in 1..n-1')
  const start = given.length === 66 && given[0] === 0x30 && given[1] === 0x78 ? 2 : 0
  if (given.length - start !== 64) throw refuse()
  const key = offHeap(32)
  for (let index = 0; index < 32; index++) {
    const high = hexValue(given[start + 2 * index]!)
    const low = hexValue(given[start + 2 * index + 1]!)
    if (high === 255 || low === 255) {
      key.fill(0)
      throw refuse()
    }
    key[index] = (high << 4) | low
  }
  if (!isValidPrivateKey(key)) {
    key.fill(0)
    throw refuse()
  }
  return key
}
