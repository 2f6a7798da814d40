import { argon2Sync } from 'node:crypto'
import Database from 'better-sqlite3'
import { hkdfSha256 } from '../../src/vault/hkdf.ts'
import { unwrapKey } from '../../src/vault/key-wrap.ts'
import { lengthPrefixed } from '../../src/vault/length-prefixed.ts'

/** Every key that `masterKey` leads to in the store of the backup at `path`, by name: what a daemon must not keep. */
export function keysOf(path: string, masterKey: Buffer): Record<string, Buffer> {
  const database = new Database(path, { readonly: true })
  try {
    const { store_id: storeId } = database.prepare('SELECT store_id FROM store').get() as { store_id: Buffer }
    const keys: Record<string, Buffer> = {}
    const wraps = database.prepare('SELECT epoch, wrapped_store_key AS wrapped FROM master_keys').all()
    for (const { epoch, wrapped } of wraps as { epoch: number; wrapped: Buffer }[]) {
      const storeKey = unwrapKey(masterKey, { storeId, epoch, purpose: 'store-key' }, wrapped)
      keys['storeKey'] = storeKey
      keys['wrappingKey'] = hkdf(masterKey, storeId, ['purser wrapping key', 'store-key'])
      keys['auditKey'] = hkdf(storeKey, storeId, ['purser audit key'])
      keys['fingerprintKey'] = hkdf(storeKey, storeId, ['purser fingerprint key'])
    }
    const rows = database
      .prepare('SELECT credential_id AS id, user_id AS userId, envelope FROM credentials')
      .all()
    for (const { id, userId, envelope } of rows as { id: number; userId: string; envelope: Buffer }[])
      keys[`kek of ${id}`] = kekOf(masterKey, userId, envelope)
    return keys
  } finally {
    database.close()
  }
}

function hkdf(secret: Buffer, storeId: Buffer, info: string[]): Buffer {
  return hkdfSha256(secret, storeId, lengthPrefixed(info), 32)
}

/** The key of an envelope, derived by OpenSSL and not by the library the daemon uses. */
export function kekOf(masterKey: Buffer, userId: string, envelope: Buffer): Buffer {
  return argon2Sync('argon2id', {
    message: Buffer.alloc(0),
    nonce: envelope.subarray(13, 29),
    secret: masterKey,
    associatedData: lengthPrefixed(['purser key encryption key', Buffer.of(1), userId]),
    parallelism: 1,
    tagLength: 32,
    memory: envelope.readUInt32BE(5),
    passes: envelope.readUInt32BE(9),
  })
}
