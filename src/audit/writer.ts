import type { EntryWriter } from '../store/group-commit.ts'
import type { Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { AuditEntry } from './entry.ts'
import { chainEntry, genesisHash } from './entry.ts'

/** The end of the chain. `hash` is of entry `seq`. */
export type AuditHead = { readonly seq: number; readonly hash: Buffer }

/** What a daemon that may be without its key, or without a store, says of the log it writes. */
export type LogState = {
  /** An entry that has to stand in the log before any other, or null: it could not be written when it was due. */
  owed(): AuditEntry | null
  /** `entry`, which was owed, is on disk. */
  paid(entry: AuditEntry): void
  /** Whether there is a store to write to; without one entries are dropped. */
  hasStore(): boolean
}

const plainLog: LogState = { owed: () => null, paid: () => undefined, hasStore: () => true }

/**
 * Appends entries to the chain inside the group commit. The head lives in memory between commits because this daemon
 * alone writes the store; it is read again from the store at the first entry and after whatever was rolled back.
 */
export class AuditWriter implements EntryWriter<AuditEntry> {
  readonly #mac: (hash: Buffer) => Buffer | null
  readonly #now: () => number
  /** null: not known, to be read. */
  #head: AuditHead | null = null
  #committed: AuditHead | null = null
  #dirty = false
  readonly #log: LogState
  /** What was owed and stands in this commit. */
  #paying: AuditEntry | null = null

  /** `mac` answers null while there is no audit key in memory; `now` is wall-clock milliseconds. */
  constructor(mac: (hash: Buffer) => Buffer | null, now: () => number, log: LogState = plainLog) {
    this.#mac = mac
    this.#now = now
    this.#log = log
  }

  /** The last entry that is on disk, once one was written or read by this writer. */
  get committedHead(): AuditHead | null {
    return this.#committed
  }

  *append(entry: AuditEntry): Transaction<void> {
    if (!this.#log.hasStore()) return
    const owed = this.#log.owed()
    if (owed !== null && owed !== this.#paying) {
      if (owed !== entry) yield* this.#insert(owed)
      this.#paying = owed
    }
    yield* this.#insert(entry)
  }

  *#insert(entry: AuditEntry): Transaction<void> {
    const head = this.#head ?? (yield* readHead())
    const row = chainEntry(head, entry, this.#now())
    // Unknown until the row is in: if the insert fails alone, the head is read again from what then stands there.
    this.#head = null
    yield* perform('auditInsert', row)
    this.#head = { seq: row.seq, hash: row.hash }
    this.#dirty = true
  }

  undone(): void {
    this.#head = null
    // It may have stood in what was undone: better twice than not at all.
    this.#paying = null
  }

  /** One MAC on the last entry of a commit covers those before it: the chain ties them to it. */
  *beforeCommit(): Transaction<void> {
    if (!this.#dirty) return
    const head = this.#head ?? (yield* readHead())
    this.#head = head
    const mac = this.#mac(head.hash)
    if (mac !== null) yield* perform('auditSetMac', head.seq, mac)
  }

  settled(committed: boolean): void {
    if (!committed) this.#head = null
    else if (this.#dirty) this.#committed = this.#head
    if (committed && this.#paying !== null) this.#log.paid(this.#paying)
    this.#paying = null
    this.#dirty = false
  }
}

function* readHead(): Transaction<AuditHead> {
  const stored = yield* perform('auditHead')
  return stored === undefined ? { seq: 0, hash: genesisHash } : { seq: stored.seq, hash: stored.hash }
}
