import { timingSafeEqual } from 'node:crypto'
import type { AuditRow } from '../store/operations.ts'
import { chainHash, genesisHash } from './entry.ts'

/** How far a verification has come. Feed it rows in order, then ask for the report. */
export type Verification = {
  /** Whether everything so far holds. */
  ok: boolean
  entries: number
  headSeq: number
  headHash: Buffer
  firstBadSeq: number | null
  /** Entries since the last one with a MAC; they are only chained, not yet vouched for. */
  unmacked: number
  macChecked: boolean
}

/**
 * A verification that starts behind `anchor` (the entry before the first one looked at, trusted as it is), or at the
 * beginning of the chain.
 */
export function startVerification(anchor: { seq: number; hash: Buffer } | null): Verification {
  return {
    ok: true,
    entries: 0,
    headSeq: anchor?.seq ?? 0,
    headHash: anchor?.hash ?? genesisHash,
    firstBadSeq: null,
    unmacked: 0,
    macChecked: false,
  }
}

/**
 * Whether the entries before `row` should have been vouched for and are not. A daemon that has its key ends every
 * commit with a MAC, so a start finds one on the last entry. Without this, whoever forges entries and takes their MACs
 * away would have them vouched for by the first commit of the next start.
 */
function unvouchedBefore(state: Verification, row: AuditRow): boolean {
  return row.action === 'daemon_started' && state.unmacked > 0
}

/**
 * Takes the next row. `mac` computes the HMAC of a hash, or answers null without an audit key: then MACs are not
 * looked at. Stops at the first entry that is missing, out of place, altered, carries a wrong MAC or lacks one.
 */
export function verifyRow(state: Verification, row: AuditRow, mac: (hash: Buffer) => Buffer | null): void {
  if (!state.ok) return
  const expected = chainHash(state.headHash, row)
  if (row.seq !== state.headSeq + 1 || !equal(row.hash, expected)) {
    state.ok = false
    state.firstBadSeq = state.headSeq + 1
    return
  }
  if (unvouchedBefore(state, row)) {
    state.ok = false
    state.firstBadSeq = firstUnmacked(state)
    return
  }
  if (row.mac === null) state.unmacked++
  else {
    const right = mac(row.hash)
    if (right !== null) {
      if (!equal(row.mac, right)) {
        state.ok = false
        state.firstBadSeq = row.seq
        return
      }
      state.macChecked = true
    }
    state.unmacked = 0
  }
  state.entries++
  state.headSeq = row.seq
  state.headHash = row.hash
}

/**
 * Ends a verification: with a key at hand, entries at the end that no MAC covers are bad (a commit of an unsealed
 * daemon always ends with one), starting at the first of them.
 */
export function finishVerification(state: Verification, hasKey: boolean): Verification {
  if (state.ok && hasKey && state.unmacked > 0) {
    return { ...state, ok: false, firstBadSeq: firstUnmacked(state) }
  }
  return state
}

function firstUnmacked({ headSeq, unmacked }: Verification): number {
  return headSeq - unmacked + 1
}

function equal(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
