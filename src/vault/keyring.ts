import {
  createHmac,
  createSecretKey,
  type KeyObject,
  randomBytes,
  randomFillSync,
  timingSafeEqual,
} from 'node:crypto'
import { PurserError } from '../errors.ts'
import { AeadOpenError } from './aead.ts'
import { hkdfSha256 } from './hkdf.ts'
import { unwrapKey, wrapKey } from './key-wrap.ts'
import { lengthPrefixed, uint32 } from './length-prefixed.ts'
import { secureAlloc, secureCopy, secureFree } from './secure-memory.ts'

export const MASTER_KEY_BYTES = 32
const STORE_ID_BYTES = 16
const STORE_KEY_BYTES = 32
const CHECK_VALUE_BYTES = 32
const FIRST_EPOCH = 1

/** A wrong key is answered once a second; see system.unseal. */
const WRONG_KEY_RETRY_AFTER_MS = 1000

/** What a store holds of its keys; nothing in it is secret. */
export type KeyMaterial = {
  /** 16 random bytes made once: they tell this store's envelopes from those of every other. */
  readonly storeId: Buffer
  /** Number of the master key. */
  readonly epoch: number
  /** Names the master key to people: 16 hex digits. */
  readonly keyId: string
  /** Tells a wrong master key, or an epoch or store id that was changed. */
  readonly checkValue: Buffer
  /** The store key under the master key. */
  readonly wrappedStoreKey: Buffer
}

/** Key material that the right master key does not open: it was altered or damaged. */
export class KeyMaterialDamagedError extends Error {
  override readonly name = 'KeyMaterialDamagedError'

  constructor() {
    super('the key material of the store is damaged')
  }
}

/** The name of a master key: the first 8 bytes, as hex, of HMAC-SHA256(master key, "purser key id"). */
export function keyIdOf(masterKey: Buffer): string {
  assertMasterKey(masterKey)
  return createHmac('sha256', masterKey).update('purser key id').digest('hex').slice(0, 16)
}

/** Keys for a new store under `masterKey`, which stays the caller's to wipe. Made once in the life of a store. */
export function createKeyMaterial(masterKey: Buffer): KeyMaterial {
  const storeId = randomBytes(STORE_ID_BYTES)
  const storeKey = randomFillSync(secureAlloc(STORE_KEY_BYTES))
  try {
    return {
      storeId,
      epoch: FIRST_EPOCH,
      keyId: keyIdOf(masterKey),
      checkValue: checkValueOf(masterKey, storeId, FIRST_EPOCH),
      wrappedStoreKey: wrapKey(masterKey, { storeId, epoch: FIRST_EPOCH, purpose: 'store-key' }, storeKey),
    }
  } finally {
    secureFree(storeKey)
  }
}

/**
 * The keyring of a store. `masterKey` is copied and stays the caller's to wipe. Throws WrongMasterKey for another key
 * and KeyMaterialDamagedError where the key is right and the material is not.
 *
 * keyId and check value both know the master key, the latter also store id and epoch. A wrong key fails both; a change
 * to the file, unless it hits both at once, fails one.
 */
export function openKeyMaterial(masterKey: Buffer, material: KeyMaterial): Keyring {
  assertMasterKey(masterKey)
  const { storeId, epoch, keyId, checkValue, wrappedStoreKey } = material
  if (storeId.length !== STORE_ID_BYTES || !Number.isInteger(epoch) || epoch < 1 || epoch > 0xffffffff) {
    throw new KeyMaterialDamagedError()
  }
  const expected = checkValueOf(masterKey, storeId, epoch)
  const checks = checkValue.length === CHECK_VALUE_BYTES && timingSafeEqual(checkValue, expected)
  const named = keyIdOf(masterKey) === keyId
  if (!checks && !named) {
    throw new PurserError('WrongMasterKey', { retryAfterMs: WRONG_KEY_RETRY_AFTER_MS })
  }
  if (!checks || !named) throw new KeyMaterialDamagedError()
  const storeKey = unwrapStoreKey(masterKey, { storeId, epoch }, wrappedStoreKey)
  try {
    return new Keyring({ storeId, epoch, masterKeys: new Map([[epoch, masterKey]]), storeKey })
  } finally {
    secureFree(storeKey)
  }
}

/**
 * The keys of an unsealed store. Envelopes name the epoch they were sealed under; while a rotation is under way the
 * ring holds the master keys of two epochs. Once closed, every use is Sealed.
 */
export class Keyring {
  readonly storeId: Buffer
  /** The epoch that new envelopes are sealed under. */
  readonly epoch: number
  readonly keyId: string
  readonly #masterKeys = new Map<number, Buffer>()
  /**
   * KeyObjects, though they keep their copy in memory that is not locked: an HMAC by a KeyObject takes 6 us, by a
   * Buffer 32, and there is one for every audited commit. The copy is cleansed when the object is collected.
   */
  #macKeys: { readonly fingerprint: KeyObject; readonly audit: KeyObject } | null

  /** Copies all keys it is given. `masterKeys` by epoch, that of `epoch` among them. */
  constructor(parts: {
    readonly storeId: Buffer
    readonly epoch: number
    readonly masterKeys: ReadonlyMap<number, Buffer>
    readonly storeKey: Buffer
  }) {
    const current = parts.masterKeys.get(parts.epoch)
    if (current === undefined) throw new RangeError('the keyring lacks the key of its epoch')
    this.storeId = Buffer.from(parts.storeId)
    this.epoch = parts.epoch
    this.keyId = keyIdOf(current)
    for (const [epoch, masterKey] of parts.masterKeys) this.#masterKeys.set(epoch, secureCopy(masterKey))
    this.#macKeys = {
      fingerprint: macKey(parts.storeKey, parts.storeId, 'purser fingerprint key'),
      audit: macKey(parts.storeKey, parts.storeId, 'purser audit key'),
    }
  }

  get closed(): boolean {
    return this.#macKeys === null
  }

  /** The master key of an epoch, to be used at once and not kept: `close` wipes it. Null where the ring has none. */
  masterKey(epoch: number): Buffer | null {
    this.#openMacKeys()
    return this.#masterKeys.get(epoch) ?? null
  }

  /** HMAC-SHA256 of an API key. Equal keys have equal fingerprints; without the store key a guess cannot be tested. */
  fingerprint(apiKey: Buffer): Buffer {
    return createHmac('sha256', this.#openMacKeys().fingerprint).update(apiKey).digest()
  }

  /** HMAC-SHA256 of an audit entry's hash. Whoever can write the file can chain hashes; he cannot make this. */
  auditMac(hash: Buffer): Buffer {
    return createHmac('sha256', this.#openMacKeys().audit).update(hash).digest()
  }

  /** Wipes the master keys and lets go of the MAC keys, whose copies go with the next collection. */
  close(): void {
    for (const masterKey of this.#masterKeys.values()) secureFree(masterKey)
    this.#masterKeys.clear()
    this.#macKeys = null
  }

  #openMacKeys(): { readonly fingerprint: KeyObject; readonly audit: KeyObject } {
    if (this.#macKeys === null) throw new PurserError('Sealed')
    return this.#macKeys
  }
}

function unwrapStoreKey(
  masterKey: Buffer,
  place: { readonly storeId: Buffer; readonly epoch: number },
  wrapped: Buffer,
): Buffer {
  try {
    return unwrapKey(masterKey, { ...place, purpose: 'store-key' }, wrapped)
  } catch (error) {
    if (error instanceof AeadOpenError) throw new KeyMaterialDamagedError()
    throw error
  }
}

/**
 * A key of its own for each kind of MAC, so that a fingerprint can never be passed off as an audit MAC. Both come from
 * the store key, which a rotation of the master key leaves as it is: neither changes then.
 */
function macKey(storeKey: Buffer, storeId: Buffer, label: string): KeyObject {
  const key = hkdfSha256(storeKey, storeId, lengthPrefixed([label]), 32)
  try {
    return createSecretKey(key)
  } finally {
    secureFree(key)
  }
}

/** A function of the master key that can be stored: HMAC is one-way, and 32 random bytes cannot be guessed against it. */
function checkValueOf(masterKey: Buffer, storeId: Buffer, epoch: number): Buffer {
  return createHmac('sha256', masterKey)
    .update(lengthPrefixed(['purser check value', storeId, uint32(epoch)]))
    .digest()
}

function assertMasterKey(masterKey: Buffer): void {
  if (masterKey.length !== MASTER_KEY_BYTES) throw new RangeError('a master key is 32 bytes')
}
