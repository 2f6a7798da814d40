import { randomBytes, randomInt } from 'node:crypto'
import fc from 'fast-check'
import { PurserError } from '../../src/errors.ts'
import type { CredentialSecrets } from '../../src/vault/credential-secrets.ts'
import { DerivationQueue } from '../../src/vault/derivation-queue.ts'
import type { KdfParams } from '../../src/vault/kdf.ts'
import { createKeyMaterial, openKeyring } from '../../src/vault/keyring.ts'
import { type CredentialContext, Vault } from '../../src/vault/vault.ts'

/** fast-check prints it when a property fails; PURSER_TEST_SEED runs the same values again. */
export const seed = Number(process.env['PURSER_TEST_SEED'] ?? randomInt(2 ** 31))
fc.configureGlobal({ seed })

/** The least Argon2 takes: these tests are about what happens around a derivation. */
export const cheapKdf: KdfParams = { memoryKib: 8, iterations: 1 }

export const alice: CredentialContext = {
  userId: 'alice',
  credentialId: 7,
  privateKeyPolicy: 'exportable',
}

export const secrets: CredentialSecrets = {
  apiKey: Buffer.from('00000000-0000-4000-8000-000000000001'),
  apiSecret: Buffer.from('c2VjcmV0IG9mIGFuIGFwaSBrZXkgLSBub3QgcmVhbA=='),
  passphrase: Buffer.from('a passphrase'),
  privateKey: Buffer.from(`${'00'.repeat(31)}05`, 'hex'),
}

export function newVault(queue = new DerivationQueue(), kdf: KdfParams = cheapKdf): Vault {
  const masterKey = randomBytes(32)
  return new Vault({ keyring: openKeyring(masterKey, createKeyMaterial(masterKey)), queue, kdf })
}

/** The PurserError a promise rejects with; fails where it does not. */
export async function rejection(promise: Promise<unknown>): Promise<PurserError> {
  const error = await promise.then(
    () => 'it resolved',
    (reason: unknown) => reason,
  )
  if (error instanceof PurserError) return error
  throw new Error(`expected a PurserError, got ${String(error)}`)
}

export function thrown(act: () => unknown): unknown {
  try {
    act()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

export function flipBit(bytes: Buffer, bit: number): Buffer {
  const altered = Buffer.from(bytes)
  altered.writeUInt8(altered.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
  return altered
}
