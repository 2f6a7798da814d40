import { randomBytes } from 'node:crypto'
import { PurserError } from '../errors.ts'
import { AEAD_NONCE_BYTES, AEAD_TAG_BYTES, AeadOpenError, aeadOpen, aeadSeal } from './aead.ts'
import { KDF_SALT_BYTES, type KdfParams, kdfParamsAreBounded } from './kdf.ts'
import { lengthPrefixed, uint32, uint64 } from './length-prefixed.ts'

/** What a stored envelope begins with. A change to anything below is a new number, never a second meaning of this one. */
export const ENVELOPE_VERSION = 1

/** Version 1, epoch 4, memoryKib 4, iterations 4, salt 16; behind it nonce, ciphertext and tag. Big-endian. */
const HEADER_BYTES = 1 + 4 + 4 + 4 + KDF_SALT_BYTES

/** The longest plaintext there is: three fields of 65,535 bytes and a private key, with their prefixes. */
const MAX_PLAINTEXT_BYTES = 3 * (3 + 0xffff) + 3 + 32
const MIN_ENVELOPE_BYTES = HEADER_BYTES + AEAD_NONCE_BYTES + 1 + AEAD_TAG_BYTES
const MAX_ENVELOPE_BYTES = HEADER_BYTES + AEAD_NONCE_BYTES + MAX_PLAINTEXT_BYTES + AEAD_TAG_BYTES

const STORE_ID_BYTES = 16

/** Whether the private key may be handed out or only sign. Part of what an envelope is bound to. */
export type PrivateKeyPolicy = 'exportable' | 'sign-only'

/** The place an envelope belongs to, none of it stored inside. It opens there and nowhere else. */
export type EnvelopeContext = {
  /** 16 bytes. */
  readonly storeId: Buffer
  readonly userId: string
  readonly credentialId: number
  readonly privateKeyPolicy: PrivateKeyPolicy
}

/** What an envelope says of itself in the clear; authenticated with the rest. */
export type EnvelopeHeader = {
  /** Number of the master key it is sealed under. */
  readonly epoch: number
  readonly kdf: KdfParams
  readonly salt: Buffer
}

/** The one error for everything that can be wrong with an envelope: which it was would only tell a forger how far he got. */
export function decryptionFailed(credentialId: number): PurserError {
  return new PurserError('DecryptionFailed', { credentialId })
}

/**
 * A header for a new envelope, with a salt of its own. The salt is why its key is used for one seal only: 2^64
 * envelopes of one user would be needed before two are likely to share a key.
 */
export function newEnvelopeHeader(epoch: number, kdf: KdfParams): EnvelopeHeader {
  return { epoch, kdf, salt: randomBytes(KDF_SALT_BYTES) }
}

/** The envelope of `plaintext` under `kek`, which must have been derived from this header's salt and parameters. */
export function sealEnvelope(
  kek: Buffer,
  header: EnvelopeHeader,
  context: EnvelopeContext,
  plaintext: Buffer,
): Buffer {
  if (plaintext.length > MAX_PLAINTEXT_BYTES) throw new RangeError('too long for an envelope')
  const clear = Buffer.concat([
    Buffer.of(ENVELOPE_VERSION),
    uint32(header.epoch),
    uint32(header.kdf.memoryKib),
    uint32(header.kdf.iterations),
    header.salt,
  ])
  return Buffer.concat([clear, aeadSeal(kek, plaintext, associatedData(header, context))])
}

/**
 * Reads the header and checks all that can be checked without a key, the cost of the derivation first of all. Throws
 * DecryptionFailed.
 */
export function parseEnvelope(envelope: Buffer, credentialId: number): EnvelopeHeader {
  const { length } = envelope
  if (length < MIN_ENVELOPE_BYTES || length > MAX_ENVELOPE_BYTES || envelope[0] !== ENVELOPE_VERSION) {
    throw decryptionFailed(credentialId)
  }
  const kdf = { memoryKib: envelope.readUInt32BE(5), iterations: envelope.readUInt32BE(9) }
  if (!kdfParamsAreBounded(kdf)) throw decryptionFailed(credentialId)
  return { epoch: envelope.readUInt32BE(1), kdf, salt: envelope.subarray(13, HEADER_BYTES) }
}

/**
 * The plaintext, in a secure allocation that the caller frees. `header` is parseEnvelope's, `kek` derived from it.
 * Throws DecryptionFailed where one byte of the envelope or of its context is not what it was when it was sealed.
 */
export function openEnvelope(
  kek: Buffer,
  header: EnvelopeHeader,
  context: EnvelopeContext,
  envelope: Buffer,
): Buffer {
  try {
    return aeadOpen(kek, envelope.subarray(HEADER_BYTES), associatedData(header, context))
  } catch (error) {
    if (error instanceof AeadOpenError) throw decryptionFailed(context.credentialId)
    throw error
  }
}

/**
 * What ties a ciphertext to one meaning. Salt and cost are bound by the key already; they stand here too so that the
 * whole header is authenticated whatever the derivation does with it. An item left out here could be exchanged by
 * whoever can write the file: without the policy, a sign-only key would become exportable by one UPDATE.
 */
export function associatedData(header: EnvelopeHeader, context: EnvelopeContext): Buffer {
  if (context.storeId.length !== STORE_ID_BYTES) throw new RangeError('a store id is 16 bytes')
  return lengthPrefixed([
    'purser envelope',
    Buffer.of(ENVELOPE_VERSION),
    context.storeId,
    context.userId,
    uint64(context.credentialId),
    uint32(header.epoch),
    context.privateKeyPolicy,
    uint32(header.kdf.memoryKib),
    uint32(header.kdf.iterations),
    header.salt,
  ])
}
