import { PurserError } from '../../errors.ts'
import type { SealedCredential, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import { parseEnvelope } from '../../vault/envelope.ts'
import type { OpenedCache } from '../../vault/opened-cache.ts'
import type { Vault } from '../../vault/vault.ts'
import type { Act, Subject } from '../act.ts'
import { findState } from './metadata.ts'

/** Tries at a credential whose envelope changes under an act before it gives up; each costs a derivation. */
export const overtakenMax = 8

/** The envelope of the credential that `subject` names, and what it is bound to. NotFound. */
export function* findSealed(act: Act, subject: Subject): Transaction<SealedCredential> {
  const state = yield* findState(act, subject.userId!, subject.credentialId!)
  return (yield* perform('credentialSealed', state.credentialId))!
}

/** The key epoch an envelope is sealed under. DecryptionFailed where it is no envelope. */
export function epochOf(envelope: Buffer, credentialId: number): number {
  return parseEnvelope(envelope, credentialId).epoch
}

/**
 * Whether an envelope was sealed under a key that has been rotated meanwhile. It must not get into the store then: the
 * job that seals everything anew may have passed its place, and the key it needs is about to retire.
 */
export function isOutdated(envelope: Buffer, credentialId: number, vault: Vault): boolean {
  return epochOf(envelope, credentialId) !== vault.keyring.epoch
}

/**
 * What was opened before is not to leave any more, from the answer of this act on; nor is what was granted, where
 * that is answered by `error` now.
 */
export function bindAtAnswer(
  cache: OpenedCache,
  act: Act,
  credentialId: number,
  error: PurserError | null,
): void {
  cache.drop(credentialId)
  const instead = error ?? new PurserError('Overloaded', { retryAfterMs: 100 })
  act.bindings.push({ on: { credentialId }, grants: error !== null, error: instead })
}
