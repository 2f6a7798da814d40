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
import { unwrapKey, type WrapContext, wrapKey } from './key-wrap.ts'
import { lengthPrefixed, uint32 } from './length-prefixed.ts'
import { secureAlloc, secureCopy, secureFree } from './secure-memory.ts'

export const MASTER_KEY_BYTES = 32
const STORE_ID_BYTES = 16
const STORE_KEY_BYTES = 32
const CHECK_VALUE_BYTES = 32
const FIRST_EPOCH = 1

/** A wrong key is answered once a second; see system.unseal. */
const WRONG_KEY_RETRY_AFTER_MS = 1000

/** What a store holds of one master key; nothing in it is secret. */
export type MasterKeyRow = {
  /** Number of the master key. */
  readonly epoch: number
  /** Names the master key to people: 16 hex digits. */
  readonly keyId: string
  /** Tells a wrong master key, or an epoch or store id that was changed. */
  readonly checkValue: Buffer
  /** The store key under the master key. */
  readonly wrappedStoreKey: Buffer
  /** During a rotation the other epoch's master key under this one, else null. */
  readonly wrappedOtherKey: Buffer | null
  /** The file this key is about to be put into: until it is there, nothing is sealed under it. */
  readonly replacesFile: string | null
}

/** What a store holds of all its keys. */
export type KeyMaterial = {
  /** 16 random bytes made once: they tell this store's envelopes from those of every other. */
  readonly storeId: Buffer
  /** Oldest first: one, or during a rotation two. */
  readonly rows: readonly MasterKeyRow[]
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
export function createKeyMaterial(masterKey: Buffer): {
  readonly storeId: Buffer
  readonly rows: readonly [MasterKeyRow]
} {
  const storeId = randomBytes(STORE_ID_BYTES)
  const storeKey = randomFillSync(secureAlloc(STORE_KEY_BYTES))
  try {
    return { storeId, rows: [keyRow(masterKey, storeId, FIRST_EPOCH, storeKey)] }
  } finally {
    secureFree(storeKey)
  }
}

/**
 * What a rotation from `masterKey`, which opens `row`, to `newKey` adds to the store: a row for the new key, and the
 * new key wrapped under the old, so that each of the two opens everything from then on. Both keys stay the caller's.
 * Throws KeyMaterialDamagedError.
 */
export function rotateKeyMaterial(
  storeId: Buffer,
  row: MasterKeyRow,
  masterKey: Buffer,
  newKey: Buffer,
): { row: MasterKeyRow; wrappedNewKey: Buffer } {
  const { epoch } = row
  const storeKey = unwrap(masterKey, { storeId, epoch, purpose: 'store-key' }, row.wrappedStoreKey)
  try {
    const newRow = keyRow(newKey, storeId, epoch + 1, storeKey)
    const older = { storeId, epoch: epoch + 1, purpose: 'older-master-key' } as const
    return {
      row: { ...newRow, wrappedOtherKey: wrapKey(newKey, older, masterKey) },
      wrappedNewKey: wrapKey(masterKey, { storeId, epoch, purpose: 'newer-master-key' }, newKey),
    }
  } finally {
    secureFree(storeKey)
  }
}

function keyRow(masterKey: Buffer, storeId: Buffer, epoch: number, storeKey: Buffer): MasterKeyRow {
  return {
    epoch,
    keyId: keyIdOf(masterKey),
    checkValue: checkValueOf(masterKey, storeId, epoch),
    wrappedStoreKey: wrapKey(masterKey, { storeId, epoch, purpose: 'store-key' }, storeKey),
    wrappedOtherKey: null,
    replacesFile: null,
  }
}

/**
 * The keyring of a store, opened by any of its keys: the row that knows `masterKey` gives the store key and, during a
 * rotation, the other master key. `masterKey` is copied and stays the caller's to wipe. Throws WrongMasterKey for a key
 * that no row knows, and KeyMaterialDamagedError where the key is right and the material is not.
 */
export function openKeyring(masterKey: Buffer, { storeId, rows }: KeyMaterial): Keyring {
  assertMasterKey(masterKey)
  const [older, newer] = rows
  if (older === undefined || rows.length > 2 || storeId.length !== STORE_ID_BYTES) {
    throw new KeyMaterialDamagedError()
  }
  if (newer !== undefined && newer.epoch !== older.epoch + 1) throw new KeyMaterialDamagedError()
  const row = rows.find((one) => isKeyOf(masterKey, storeId, one))
  if (row === undefined) throw new PurserError('WrongMasterKey', { retryAfterMs: WRONG_KEY_RETRY_AFTER_MS })
  const masterKeys = new Map([[row.epoch, masterKey]])
  const opened: Buffer[] = []
  try {
    const place = { storeId, epoch: row.epoch }
    const storeKey = unwrap(masterKey, { ...place, purpose: 'store-key' }, row.wrappedStoreKey)
    opened.push(storeKey)
    if (newer !== undefined) {
      const other = row === older ? newer : older
      const otherKey = unwrapOther(masterKey, place, row, other)
      opened.push(otherKey)
      masterKeys.set(other.epoch, otherKey)
    }
    const sealing = newer !== undefined && newer.replacesFile === null ? newer : older
    return new Keyring({ storeId, epoch: sealing.epoch, openedWith: row.epoch, masterKeys, storeKey })
  } finally {
    for (const key of opened) secureFree(key)
  }
}

/**
 * Whether `row` was made with this key. keyId and check value both know the master key, the latter also store id and
 * epoch. A wrong key fails both; a change to the file, unless it hits both at once, fails one: KeyMaterialDamagedError.
 */
function isKeyOf(masterKey: Buffer, storeId: Buffer, { epoch, keyId, checkValue }: MasterKeyRow): boolean {
  if (!Number.isInteger(epoch) || epoch < 1 || epoch > 0xffffffff) throw new KeyMaterialDamagedError()
  const expected = checkValueOf(masterKey, storeId, epoch)
  const checks = checkValue.length === CHECK_VALUE_BYTES && timingSafeEqual(checkValue, expected)
  const named = keyIdOf(masterKey) === keyId
  if (checks !== named) throw new KeyMaterialDamagedError()
  return checks
}

/** The other epoch's master key, which must be the one its own row knows: a wrap of anything else is damage. */
function unwrapOther(
  masterKey: Buffer,
  place: { readonly storeId: Buffer; readonly epoch: number },
  { wrappedOtherKey }: MasterKeyRow,
  other: MasterKeyRow,
): Buffer {
  if (wrappedOtherKey === null) throw new KeyMaterialDamagedError()
  const purpose = other.epoch > place.epoch ? 'newer-master-key' : 'older-master-key'
  const otherKey = unwrap(masterKey, { ...place, purpose }, wrappedOtherKey)
  try {
    if (otherKey.length === MASTER_KEY_BYTES && isKeyOf(otherKey, place.storeId, other)) return otherKey
    throw new KeyMaterialDamagedError()
  } catch (error) {
    secureFree(otherKey)
    throw error
  }
}

/**
 * The keys of an unsealed store. Envelopes name the epoch they were sealed under; while a rotation is under way the
 * ring holds the master keys of two epochs. Once closed, every use is Sealed.
 */
export class Keyring {
  readonly storeId: Buffer
  /** The epoch of the key this ring was opened with. */
  readonly openedWith: number
  #epoch: number
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
    readonly openedWith: number
    readonly masterKeys: ReadonlyMap<number, Buffer>
    readonly storeKey: Buffer
  }) {
    if (!parts.masterKeys.has(parts.epoch)) throw new RangeError('the keyring lacks the key of its epoch')
    this.storeId = Buffer.from(parts.storeId)
    this.#epoch = parts.epoch
    this.openedWith = parts.openedWith
    for (const [epoch, masterKey] of parts.masterKeys) this.#masterKeys.set(epoch, secureCopy(masterKey))
    this.#macKeys = {
      fingerprint: macKey(parts.storeKey, parts.storeId, 'purser fingerprint key'),
      audit: macKey(parts.storeKey, parts.storeId, 'purser audit key'),
    }
  }

  get closed(): boolean {
    return this.#macKeys === null
  }

  /** The epoch that new envelopes are sealed under: the newest, but for one whose key is not yet in its file. */
  get epoch(): number {
    return this.#epoch
  }

  /** Names the master key of `epoch`. Throws Sealed. */
  get keyId(): string {
    return keyIdOf(this.masterKey(this.#epoch)!)
  }

  /** The master key of an epoch, to be used at once and not kept: `close` wipes it. Null where the ring has none. */
  masterKey(epoch: number): Buffer | null {
    this.#openMacKeys()
    return this.#masterKeys.get(epoch) ?? null
  }

  /** Takes a copy of the key of one more epoch, whose envelopes open from now on. Throws Sealed. */
  add(epoch: number, masterKey: Buffer): void {
    this.#openMacKeys()
    assertMasterKey(masterKey)
    if (this.#masterKeys.has(epoch)) throw new RangeError('the keyring has a key of that epoch')
    this.#masterKeys.set(epoch, secureCopy(masterKey))
  }

  /** New envelopes are sealed under the key of `epoch` from now on. Throws Sealed. */
  sealUnder(epoch: number): void {
    if (this.masterKey(epoch) === null) throw new RangeError('the keyring has no key of that epoch')
    this.#epoch = epoch
  }

  /** Wipes the key of an epoch that nothing is sealed under any more. */
  retire(epoch: number): void {
    if (epoch === this.#epoch) throw new RangeError('the key that seals cannot retire')
    const masterKey = this.#masterKeys.get(epoch)
    if (masterKey === undefined) return
    this.#masterKeys.delete(epoch)
    secureFree(masterKey)
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

/** Whether `key` is the master key of `epoch`. Throws Sealed. */
export function isKeyOfEpoch(keyring: Keyring, epoch: number, key: Buffer): boolean {
  const known = keyring.masterKey(epoch)
  return known !== null && known.length === key.length && timingSafeEqual(known, key)
}

function unwrap(masterKey: Buffer, context: WrapContext, wrapped: Buffer): Buffer {
  try {
    return unwrapKey(masterKey, context, wrapped)
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
