import { createECDH, type ECDH } from 'node:crypto'
import { keccak_256 } from '@noble/hashes/sha3.js'

const PRIVATE_KEY_BYTES = 32

/** Number of points of secp256k1 (SEC 2, 2.4.1). Private keys are 1 to n - 1. */
const CURVE_ORDER = Buffer.from('fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141', 'hex')

/** The private key 1, which is no secret: put in the place of one to make OpenSSL clear it. */
const NO_SECRET = Buffer.from(`${'00'.repeat(31)}01`, 'hex')

/** Whether `bytes` are a private key of secp256k1: 32 bytes, big-endian, in 1..n-1. In time that depends on no byte. */
export function isValidPrivateKey(bytes: Uint8Array): boolean {
  if (bytes.length !== PRIVATE_KEY_BYTES) return false
  let anyBit = 0
  let borrow = 0
  for (let index = PRIVATE_KEY_BYTES - 1; index >= 0; index--) {
    const byte = bytes[index] ?? 0
    anyBit |= byte
    // The subtraction key - n, byte by byte: it ends in a borrow exactly where the key is below n.
    borrow = ((byte - (CURVE_ORDER[index] ?? 0) - borrow) >> 8) & 1
  }
  return anyBit !== 0 && borrow === 1
}

/**
 * The Ethereum address of a private key, with the checksum of EIP-55. Throws RangeError where it is not a valid key.
 * The multiplication is OpenSSL's, in constant time; pure JavaScript on bigints is neither constant in time nor able
 * to wipe what it computed with.
 */
export function addressOfPrivateKey(privateKey: Buffer): string {
  if (!isValidPrivateKey(privateKey)) throw new RangeError('not a private key of secp256k1')
  const ecdh = createECDH('secp256k1')
  try {
    ecdh.setPrivateKey(privateKey)
    return addressOfPublicKey(ecdh.getPublicKey(null, 'uncompressed'))
  } finally {
    forgetPrivateKey(ecdh)
  }
}

/** OpenSSL clears a private key when another takes its place; by itself the object would keep it until it is collected. */
function forgetPrivateKey(ecdh: ECDH): void {
  ecdh.setPrivateKey(NO_SECRET)
}

/** The last 20 bytes of keccak-256 of the point without its leading 04. */
function addressOfPublicKey(uncompressed: Buffer): string {
  return checksummed(Buffer.from(keccak_256(uncompressed.subarray(1))).toString('hex', 12))
}

/** EIP-55: a letter is upper case where the digit of the lower-case text's hash at its place is 8 or more. */
function checksummed(lowerCase: string): string {
  const hash = Buffer.from(keccak_256(Buffer.from(lowerCase, 'latin1'))).toString('hex')
  let text = '0x'
  for (const [index, digit] of [...lowerCase].entries()) {
    text += Number.parseInt(hash.charAt(index), 16) >= 8 ? digit.toUpperCase() : digit
  }
  return text
}
