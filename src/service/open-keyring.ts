import type { MasterKeyRow } from '../store/operations.ts'
import type { Keyring } from '../vault/keyring.ts'
import { openKeyMaterial } from '../vault/keyring.ts'

/** What a store says of its keys. */
export type StoredKeys = { readonly storeId: Buffer; readonly rows: readonly MasterKeyRow[] }

/** The store has no row that says which key opens it. */
export class KeyMaterialMissingError extends Error {
  override readonly name = 'KeyMaterialMissingError'

  constructor() {
    super('the store has no key material')
  }
}

/**
 * The keyring of a store with this master key, which stays the caller's to wipe. Throws WrongMasterKey for another key,
 * KeyMaterialMissingError and KeyMaterialDamagedError for a store that no key opens.
 */
export function openKeyring(masterKey: Buffer, { storeId, rows }: StoredKeys): Keyring {
  const row = rows.at(-1)
  if (row === undefined) throw new KeyMaterialMissingError()
  return openKeyMaterial(masterKey, { ...row, storeId })
}
