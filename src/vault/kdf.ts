import { argon2id, hash } from 'argon2'
import { lengthPrefixed } from './length-prefixed.ts'
import { secureCopy } from './secure-memory.ts'

export const KDF_SALT_BYTES = 16
const MASTER_KEY_BYTES = 32
const KEK_BYTES = 32
const ARGON2_VERSION_1_3 = 0x13

/** The cost of one derivation: memory in KiB, and passes over it. Stored in every envelope beside its salt. */
export type KdfParams = { readonly memoryKib: number; readonly iterations: number }

/**
 * What a derivation may cost. The parameters of a stored envelope are read before anything can be authenticated, for
 * the key that would do it comes out of them: whoever can write the file could else make every opening take 4 TiB or
 * a month. The most that is let through (256 MiB and 4 passes, or less memory and more passes) takes 0.7 s of a core,
 * and 256 MiB for each derivation under way. Below the least, Argon2 itself refuses.
 */
export const kdfBounds = {
  memoryKib: { min: 8, max: 262_144 },
  iterations: { min: 1, max: 64 },
  /** Of memoryKib times iterations, which is what the time is proportional to. */
  work: { max: 1_048_576 },
} as const

/** Whether a derivation of this cost may be run. */
export function kdfParamsAreBounded({ memoryKib, iterations }: KdfParams): boolean {
  return (
    Number.isInteger(memoryKib) &&
    memoryKib >= kdfBounds.memoryKib.min &&
    memoryKib <= kdfBounds.memoryKib.max &&
    Number.isInteger(iterations) &&
    iterations >= kdfBounds.iterations.min &&
    iterations <= kdfBounds.iterations.max &&
    memoryKib * iterations <= kdfBounds.work.max
  )
}

/**
 * The key of one envelope (KEK), 32 bytes in a secure allocation that the caller frees: Argon2id of an empty password
 * with the master key as `secret`, run on the thread pool. Throws RangeError for parameters out of bounds.
 *
 * The master key is 32 random bytes, so what protects it is its entropy; Argon2id is there for the operator who made
 * it from something weaker. Salt and user go in, hence a key is one envelope's and one user's: leaking it opens that
 * envelope and no other. The label and the format version keep a later format, or another program with the same
 * master key, from arriving at the same key.
 */
export async function deriveKek(input: {
  readonly masterKey: Buffer
  readonly salt: Buffer
  readonly userId: string
  readonly formatVersion: number
  readonly params: KdfParams
}): Promise<Buffer> {
  const { masterKey, salt, userId, formatVersion, params } = input
  if (!kdfParamsAreBounded(params)) throw new RangeError('key derivation parameters out of bounds')
  if (salt.length !== KDF_SALT_BYTES) throw new RangeError('a salt is 16 bytes')
  await bindLibrary()
  // Looked at after the wait: a master key that was wiped meanwhile has length 0, and Argon2 would do without it.
  if (masterKey.length !== MASTER_KEY_BYTES) throw new RangeError('a master key is 32 bytes')
  // As `password` the package would leave a copy of the key in Buffer's pool at every derivation. Of `secret` it makes
  // one before this call returns, so the caller may wipe its own at once, and Argon2 clears that one when it starts.
  const derived = await argon2({
    secret: masterKey,
    salt,
    associatedData: lengthPrefixed(['purser key encryption key', Buffer.of(formatVersion), userId]),
    params,
  })
  try {
    return secureCopy(derived)
  } finally {
    derived.fill(0)
  }
}

let bound: Promise<unknown> | null = null

/**
 * The first derivation is one of nothing. The dynamic linker binds a function at its first call and saves the vector
 * registers on the stack meanwhile: the first key derived in a process was found there twice, and stayed.
 */
function bindLibrary(): Promise<unknown> {
  bound ??= argon2({
    secret: Buffer.alloc(MASTER_KEY_BYTES),
    salt: Buffer.alloc(KDF_SALT_BYTES),
    associatedData: Buffer.alloc(0),
    params: { memoryKib: kdfBounds.memoryKib.min, iterations: kdfBounds.iterations.min },
  }).catch(() => {
    bound = null
  })
  return bound
}

function argon2(input: {
  readonly secret: Buffer
  readonly salt: Buffer
  readonly associatedData: Buffer
  readonly params: KdfParams
}): Promise<Buffer> {
  const { secret, salt, associatedData, params } = input
  return hash(Buffer.alloc(0), {
    raw: true,
    type: argon2id,
    version: ARGON2_VERSION_1_3,
    secret,
    salt,
    associatedData,
    memoryCost: params.memoryKib,
    timeCost: params.iterations,
    // One lane: the queue runs a derivation per core already, and more lanes would only take turns.
    parallelism: 1,
    hashLength: KEK_BYTES,
  })
}
