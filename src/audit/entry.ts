import { hash } from 'node:crypto'
import type { AuditRow } from '../store/operations.ts'

/** Protocol section 5, "Audit actions". */
export const auditActions = [
  'api_key_stored',
  'api_key_retrieved',
  'api_key_revoked',
  'api_key_rotated',
  'api_key_updated',
  'api_key_replaced',
  'spend_reserved',
  'spend_captured',
  'spend_voided',
  'spend_expired',
  'spend_recorded',
  'spend_rejected',
  'position_closed',
  'user_put',
  'user_frozen',
  'user_unfrozen',
  'system_frozen',
  'system_unfrozen',
  'system_sealed',
  'system_unsealed',
  'limits_updated',
  'decryptions_reset',
  'client_added',
  'client_updated',
  'client_removed',
  'master_rotated',
  'master_resealed',
  'backup_created',
  'access_denied',
  'daemon_started',
  'daemon_stopped',
] as const

export type AuditAction = (typeof auditActions)[number]
export type AuditOutcome = 'ok' | 'denied' | 'error'

/** Who asked, as the kernel told it at connect; comm and unit are information, never identity. */
export type Peer = {
  readonly uid: number
  readonly gid: number
  readonly pid: number
  readonly comm: string | null
  readonly unit: string | null
}

/** What an entry tells, before it gets its place in the chain. */
export type AuditEntry = {
  readonly action: AuditAction
  readonly outcome: AuditOutcome
  readonly userId: string | null
  readonly credentialId: number | null
  /** Chosen fields only, never params as they came. */
  readonly details: Readonly<Record<string, unknown>>
  readonly peer: Peer | null
  readonly client: string | null
}

/** The hash before the first entry: 32 zero bytes. */
export const genesisHash: Buffer = Buffer.alloc(32)

type Canonical = Omit<AuditRow, 'hash' | 'mac'>

/**
 * The bytes an entry's hash covers: a JSON array of its fields in this order, details being the stored text itself.
 * JSON strings are unambiguous, so no two entries share their bytes, and anyone can compute them from a row.
 */
function canonicalText(row: Canonical): string {
  return JSON.stringify([
    row.seq,
    row.atMs,
    row.action,
    row.userId,
    row.credentialId,
    row.outcome,
    row.details,
    row.peerUid,
    row.peerGid,
    row.peerPid,
    row.peerComm,
    row.peerUnit,
    row.client,
  ])
}

/** SHA-256 of the hash before (32 bytes) followed by the canonical bytes. */
export function chainHash(previous: Buffer, row: Canonical): Buffer {
  const text = Buffer.from(canonicalText(row), 'utf8')
  const input = Buffer.allocUnsafe(32 + text.length)
  previous.copy(input, 0)
  text.copy(input, 32)
  return hash('sha256', input, 'buffer')
}

/** The row of `entry` behind the given head. */
export function chainEntry(head: { seq: number; hash: Buffer }, entry: AuditEntry, atMs: number): AuditRow {
  const { peer } = entry
  const row = {
    seq: head.seq + 1,
    atMs,
    action: entry.action,
    userId: entry.userId,
    credentialId: entry.credentialId,
    outcome: entry.outcome,
    details: JSON.stringify(entry.details),
    peerUid: peer?.uid ?? null,
    peerGid: peer?.gid ?? null,
    peerPid: peer?.pid ?? null,
    peerComm: peer?.comm ?? null,
    peerUnit: peer?.unit ?? null,
    client: entry.client,
  }
  return { ...row, hash: chainHash(head.hash, row), mac: null }
}
