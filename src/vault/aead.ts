import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { secureAlloc, secureFree } from './secure-memory.ts'

export const AEAD_KEY_BYTES = 32
/** 96 bits: the length GCM uses as it is. Any other is hashed first, and then nonces can collide by chance. */
export const AEAD_NONCE_BYTES = 12
/** 128 bits. A shorter tag is easier to forge, and GCM then also gives away its hash key sooner than one would think. */
export const AEAD_TAG_BYTES = 16

/** Sealed bytes that do not open. It says nothing else, for the reason is all an attacker could learn here. */
export class AeadOpenError extends Error {
  override readonly name = 'AeadOpenError'

  constructor() {
    super('the sealed bytes do not open')
  }
}

/**
 * AES-256-GCM: nonce, ciphertext and tag in one buffer. `associatedData` is authenticated and not stored; there is no
 * default for it, since a ciphertext that is bound to no place can be moved to another.
 *
 * The nonce is random and 96 bits, never chosen by a caller: one nonce used twice under one key gives away the XOR of
 * both plaintexts and lets anybody forge. A key may therefore seal 2^32 times (NIST SP 800-38D, 8.3). Ours stay far
 * below: an envelope's key seals once, a wrap key once per epoch and purpose.
 */
export function aeadSeal(key: Buffer, plaintext: Buffer, associatedData: Buffer): Buffer {
  if (plaintext.length === 0) throw new RangeError('nothing to seal')
  const nonce = randomBytes(AEAD_NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: AEAD_TAG_BYTES })
  cipher.setAAD(associatedData)
  const ciphertext = cipher.update(plaintext)
  const rest = cipher.final()
  return Buffer.concat([nonce, ciphertext, rest, cipher.getAuthTag()])
}

/**
 * The plaintext of what aeadSeal made, in a secure allocation that the caller frees. Throws AeadOpenError for another
 * key, other associated data or any change to the bytes.
 */
export function aeadOpen(key: Buffer, sealed: Buffer, associatedData: Buffer): Buffer {
  const length = sealed.length - AEAD_NONCE_BYTES - AEAD_TAG_BYTES
  if (length < 1) throw new AeadOpenError()
  const nonce = sealed.subarray(0, AEAD_NONCE_BYTES)
  const ciphertext = sealed.subarray(AEAD_NONCE_BYTES, AEAD_NONCE_BYTES + length)
  // authTagLength: without it node:crypto takes a tag of 4 bytes as well as one of 16.
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: AEAD_TAG_BYTES })
  decipher.setAAD(associatedData)
  decipher.setAuthTag(sealed.subarray(AEAD_NONCE_BYTES + length))
  return decryptInto(secureAlloc(length), decipher, ciphertext)
}

/**
 * node:crypto decrypts into ordinary memory and does so before it has looked at the tag: the bytes are copied at once
 * and wiped whatever happens, and those that do not authenticate never leave this function. Out of reach is a first
 * allocation, one byte longer, that node:crypto frees itself; GLIBC_TUNABLES of the launcher and the unit fill it.
 */
function decryptInto(
  plaintext: Buffer,
  decipher: ReturnType<typeof createDecipheriv>,
  ciphertext: Buffer,
): Buffer {
  let unverified: Buffer | null = null
  try {
    unverified = decipher.update(ciphertext)
    // GCM holds nothing back: final() only compares the tag, and it frees the cipher's copy of the key, also when it throws.
    decipher.final()
    unverified.copy(plaintext)
    return plaintext
  } catch {
    secureFree(plaintext)
    throw new AeadOpenError()
  } finally {
    unverified?.fill(0)
  }
}
