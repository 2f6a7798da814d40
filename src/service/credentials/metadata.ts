import { PurserError } from '../../errors.ts'
import { formatUsd } from '../../money.ts'
import type { CredentialRow, CredentialState, PrivateKeyPolicy, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Act } from '../act.ts'
import { grantsCredential } from '../grant.ts'

export type CredentialStatus = 'active' | 'revoked' | 'expired'

/** What anyone with a scope on the user may see of a credential: no secret. Protocol section 5, credentials.get. */
export type CredentialMetadata = {
  credentialId: number
  userId: string
  name: string | null
  status: CredentialStatus
  isPrimary: boolean
  address: string | null
  fingerprint: string
  hasPrivateKey: boolean
  privateKeyPolicy: PrivateKeyPolicy
  dailySpendLimitUsd: string | null
  createdAt: string
  updatedAt: string
  lastUsedAt: string | null
  expiresAt: string | null
  revokedAt: string | null
  revokeReason: string | null
  encryptedAt: string
  apiSecretRetrievedAt: string | null
  privateKeyRetrievedAt: string | null
}

/** RFC 3339 UTC with milliseconds, null for null. */
export function time(atMs: bigint | number): string
export function time(atMs: bigint | number | null): string | null
export function time(atMs: bigint | number | null): string | null {
  return atMs === null ? null : new Date(Number(atMs)).toISOString()
}

/** Revoked beats expired; a credential is expired from its time on. */
export function statusOf(
  row: { revokedAtMs: bigint | number | null; expiresAtMs: bigint | number | null },
  nowMs: number,
): CredentialStatus {
  if (row.revokedAtMs !== null) return 'revoked'
  return row.expiresAtMs !== null && Number(row.expiresAtMs) <= nowMs ? 'expired' : 'active'
}

export function metadataOf(row: CredentialRow, nowMs: number): CredentialMetadata {
  return {
    credentialId: Number(row.credentialId),
    userId: row.userId,
    name: row.name,
    status: statusOf(row, nowMs),
    isPrimary: row.isPrimary === 1n,
    address: row.address,
    fingerprint: row.fingerprint.toString('hex'),
    hasPrivateKey: row.address !== null,
    privateKeyPolicy: row.privateKeyPolicy,
    dailySpendLimitUsd: row.dailyLimitMicros === null ? null : formatUsd(row.dailyLimitMicros),
    createdAt: time(row.createdAtMs),
    updatedAt: time(row.updatedAtMs),
    lastUsedAt: time(row.lastUsedAtMs),
    expiresAt: time(row.expiresAtMs),
    revokedAt: time(row.revokedAtMs),
    revokeReason: row.revokeReason,
    encryptedAt: time(row.encryptedAtMs),
    apiSecretRetrievedAt: time(row.apiSecretRetrievedAtMs),
    privateKeyRetrievedAt: time(row.privateKeyRetrievedAtMs),
  }
}

/** NotFound for a credential, or for its user where there is none. Another user's id is as if it never was. */
export function* credentialMissing(userId: string): Transaction<never> {
  const user = yield* perform('userGet', userId)
  throw new PurserError('NotFound', { resource: user === undefined ? 'user' : 'credential' })
}

/**
 * The credential a call means: the one named, else the user's primary; undefined where there is none, or where the
 * caller's entry lists others only.
 */
export function* lookUpState(
  { caller }: Act,
  userId: string,
  credentialId: number | undefined,
): Transaction<CredentialState | undefined> {
  const state =
    credentialId === undefined
      ? yield* perform('credentialPrimaryState', userId)
      : yield* perform('credentialState', userId, credentialId)
  return state !== undefined && grantsCredential(caller, state.credentialId) ? state : undefined
}

/** As `lookUpState`, NotFound where there is none. */
export function* findState(
  act: Act,
  userId: string,
  credentialId: number | undefined,
): Transaction<CredentialState> {
  return (yield* lookUpState(act, userId, credentialId)) ?? (yield* credentialMissing(userId))
}

/** The row of the credential named. NotFound, also where the caller's entry lists others only. */
export function* findRow({ caller }: Act, userId: string, credentialId: number): Transaction<CredentialRow> {
  const row = yield* perform('credentialRow', userId, credentialId)
  return row !== undefined && grantsCredential(caller, credentialId) ? row : yield* credentialMissing(userId)
}

/** CredentialRevoked or CredentialExpired for one that may not be used. */
export function refuseUnusable(
  state: { revokedAtMs: bigint | number | null; expiresAtMs: bigint | number | null },
  nowMs: number,
): void {
  if (state.revokedAtMs !== null)
    throw new PurserError('CredentialRevoked', { revokedAt: time(state.revokedAtMs) })
  if (state.expiresAtMs !== null && Number(state.expiresAtMs) <= nowMs) {
    throw new PurserError('CredentialExpired', { expiredAt: time(state.expiresAtMs) })
  }
}
