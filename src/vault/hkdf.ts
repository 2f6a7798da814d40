import { hkdfSync } from 'node:crypto'
import { secureCopy } from './secure-memory.ts'

/**
 * HKDF-SHA256 (RFC 5869): a key of `length` bytes for one purpose, in a secure allocation that the caller frees.
 * `info` names the purpose; two purposes give keys of which neither tells anything about the other.
 *
 * `secret` must be uniformly random, as ours are (32 bytes): HKDF spreads entropy and adds none, so a passphrase
 * could be guessed as fast as SHA-256 runs. node:crypto keeps a copy of `secret` in a KeyObject that is cleansed when
 * it is collected; a seal therefore forces a collection before it answers.
 */
export function hkdfSha256(secret: Buffer, salt: Buffer, info: Buffer, length: number): Buffer {
  const derived = new Uint8Array(hkdfSync('sha256', secret, salt, info, length))
  try {
    return secureCopy(derived)
  } finally {
    derived.fill(0)
  }
}
