import { AEAD_KEY_BYTES, aeadOpen, aeadSeal } from './aead.ts'
import { hkdfSha256 } from './hkdf.ts'
import { lengthPrefixed, uint32 } from './length-prefixed.ts'
import { secureFree } from './secure-memory.ts'

/**
 * What a wrapped key is for: the store key, or, while a rotation is not over, the master key that comes after the one it
 * is wrapped under, or before it. Two purposes, so that neither wrap can be passed off as the other.
 */
export type WrapPurpose = 'store-key' | 'newer-master-key' | 'older-master-key'

/** Where a wrap belongs. Moved to another store, epoch or purpose it does not open. */
export type WrapContext = {
  readonly storeId: Buffer
  /** Number of the master key it is wrapped under. */
  readonly epoch: number
  readonly purpose: WrapPurpose
}

/** `key` sealed under `masterKey`. */
export function wrapKey(masterKey: Buffer, context: WrapContext, key: Buffer): Buffer {
  const wrappingKey = deriveWrappingKey(masterKey, context)
  try {
    return aeadSeal(wrappingKey, key, associatedData(context))
  } finally {
    secureFree(wrappingKey)
  }
}

/** The key that was wrapped, in a secure allocation that the caller frees. Throws AeadOpenError. */
export function unwrapKey(masterKey: Buffer, context: WrapContext, wrapped: Buffer): Buffer {
  const wrappingKey = deriveWrappingKey(masterKey, context)
  try {
    return aeadOpen(wrappingKey, wrapped, associatedData(context))
  } finally {
    secureFree(wrappingKey)
  }
}

/**
 * The master key itself never goes into AES: Argon2, HMAC and GCM each see it only through a function made for it, so
 * nothing one of them gives away helps against another. No Argon2 here, for a start must not wait for it, and it would
 * protect nothing that the check value and keyId, which are as quick to compute, do not show.
 */
function deriveWrappingKey(masterKey: Buffer, context: WrapContext): Buffer {
  return hkdfSha256(
    masterKey,
    context.storeId,
    lengthPrefixed(['purser wrapping key', context.purpose]),
    AEAD_KEY_BYTES,
  )
}

function associatedData(context: WrapContext): Buffer {
  return lengthPrefixed(['purser wrapped key', context.storeId, uint32(context.epoch), context.purpose])
}
