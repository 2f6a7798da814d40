import { timingSafeEqual } from 'node:crypto'
import type { AuditRow } from '../store/operations.ts'
import { chainHash, genesisHash } from './entry.ts'

/**
 * Whether purser is sealed, by what the log tells: not; for this run only (a start without a key, a seal that could not
 * be stored); or until an unseal.
 */
export type SealTold = 'unsealed' | 'sealed' | 'stored'

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
  /** As of the last entry, and as of the last one with a MAC. */
  seal: SealTold
  sealAtMac: SealTold
  /** Whether the first of the entries without a MAC tells of a seal or of a start without a key. */
  unmackedFromSeal: boolean
  /** The first of the entries without a MAC that tells of an unseal or of a start with a key. */
  unmackedUnsealSeq: number | null
}

/**
 * A verification that starts behind `anchor` (the entry before the first one looked at, trusted as it is), or at the
 * beginning of the chain. `seal` is what the log tells up to there (tellsOfSeal).
 */
export function startVerification(
  anchor: { seq: number; hash: Buffer } | null,
  seal: SealTold = 'unsealed',
): Verification {
  return {
    ok: true,
    entries: 0,
    headSeq: anchor?.seq ?? 0,
    headHash: anchor?.hash ?? genesisHash,
    firstBadSeq: null,
    unmacked: 0,
    macChecked: false,
    seal,
    sealAtMac: seal,
    unmackedFromSeal: false,
    unmackedUnsealSeq: null,
  }
}

type Told = Pick<AuditRow, 'action' | 'outcome' | 'details'>

/** What an entry says of whether purser is sealed from there on; null where it says nothing. */
export function tellsOfSeal({ action, outcome, details }: Told): SealTold | null {
  if (outcome !== 'ok') return null
  switch (action) {
    case 'system_sealed':
      return details.includes('"stored":true') ? 'stored' : 'sealed'
    case 'system_unsealed':
      return 'unsealed'
    case 'daemon_started':
      return details.includes('"sealed":true') ? 'sealed' : 'unsealed'
    default:
      return null
  }
}

/** What the contract's "Sealed" refuses, as the log tells of it where it was done: no sealed daemon has written that. */
const neverSealed: ReadonlySet<string> = new Set([
  'api_key_stored',
  'api_key_retrieved',
  'api_key_updated',
  'api_key_replaced',
  'api_key_rotated',
  'user_put',
  'limits_updated',
  'spend_reserved',
  'order_signed',
  'auth_signed',
  'client_added',
  'client_updated',
  'master_rotated',
  'master_resealed',
  'backup_created',
])

/**
 * The first of the entries before `row` that should have been vouched for and are not, null where there is none. A
 * daemon that has its key ends every commit with a MAC, so a start finds one on the last entry, but where the run
 * before was sealed: then what no MAC covers begins behind a MAC under a log that tells of a seal, or with the entry
 * that tells of it. Without this, whoever forges entries and takes the MACs away would have them vouched for by the
 * first commit of the next start.
 *
 * What this cannot catch: until an unseal vouches for them, the entries of a sealed daemon are only chained. Whoever can
 * write the file may change or drop them, or cut the log off at any MAC and go on as a sealed daemon would; of such a
 * forgery only entries that no sealed daemon writes (neverSealed) are found. The head in the daemon's log shows it.
 */
function unvouchedBefore(state: Verification, row: AuditRow): number | null {
  if (row.action !== 'daemon_started' || state.unmacked === 0) return null
  if (state.sealAtMac === 'unsealed' && !state.unmackedFromSeal) return firstUnmacked(state)
  // The commit that tells of a key ends with a MAC: else a seal and an unseal of his own making would hide all else.
  return state.unmackedUnsealSeq
}

/** Whether a daemon that was sealed cannot have written `row`: only an unseal ends a seal that is stored. */
function contradictsSeal(seal: SealTold, row: AuditRow, told: SealTold | null): boolean {
  if (seal === 'unsealed' || row.outcome !== 'ok') return false
  if (row.action === 'daemon_started') return seal === 'stored' && told === 'unsealed'
  return neverSealed.has(row.action)
}

/** A start without a key under a stored seal does not end that. */
function sealAfter(seal: SealTold, told: SealTold | null): SealTold {
  return told === null || (seal === 'stored' && told === 'sealed') ? seal : told
}

/**
 * Takes the next row. `mac` computes the HMAC of a hash, or answers null without an audit key: then MACs are not
 * looked at. Stops at the first entry that is missing, out of place, altered, carries a wrong MAC or lacks one, or that
 * tells of what is refused while sealed.
 */
export function verifyRow(state: Verification, row: AuditRow, mac: (hash: Buffer) => Buffer | null): void {
  if (!state.ok) return
  const expected = chainHash(state.headHash, row)
  if (row.seq !== state.headSeq + 1 || !equal(row.hash, expected)) {
    fail(state, state.headSeq + 1)
    return
  }
  const unvouched = unvouchedBefore(state, row)
  if (unvouched !== null) {
    fail(state, unvouched)
    return
  }
  const told = tellsOfSeal(row)
  if (contradictsSeal(state.seal, row, told)) {
    fail(state, row.seq)
    return
  }
  if (row.mac !== null) {
    const right = mac(row.hash)
    if (right !== null) {
      if (!equal(row.mac, right)) {
        fail(state, row.seq)
        return
      }
      state.macChecked = true
    }
  }
  state.seal = sealAfter(state.seal, told)
  if (row.mac === null) {
    if (state.unmacked === 0) state.unmackedFromSeal = told === 'sealed' || told === 'stored'
    if (told === 'unsealed') state.unmackedUnsealSeq ??= row.seq
    state.unmacked++
  } else {
    state.unmacked = 0
    state.unmackedUnsealSeq = null
    state.sealAtMac = state.seal
  }
  state.entries++
  state.headSeq = row.seq
  state.headHash = row.hash
}

/**
 * Ends a verification: with a key at hand, entries at the end that no MAC covers are bad (a commit of an unsealed
 * daemon always ends with one), starting at the first of them. `hasKey` is whether the daemon had it when the last row
 * was asked for; one that was sealed meanwhile tells so in its last entries.
 */
export function finishVerification(state: Verification, hasKey: boolean): Verification {
  if (state.ok && hasKey && state.unmacked > 0 && state.seal === 'unsealed') {
    return { ...state, ok: false, firstBadSeq: firstUnmacked(state) }
  }
  return state
}

function fail(state: Verification, seq: number): void {
  state.ok = false
  state.firstBadSeq = seq
}

function firstUnmacked({ headSeq, unmacked }: Verification): number {
  return headSeq - unmacked + 1
}

function equal(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
