/**
 * The seam between rules and SQL. A transaction is a generator that yields operations and gets their results back;
 * whoever runs it decides how: the SQLite engine answers each at once, a networked engine awaits each. Nothing else
 * can be awaited inside one, so no other I/O sneaks into a transaction. An engine brings SQL for every name below
 * and no rule. (An async function over a narrow handle costs about the same, 7 % on an indexed read where this costs
 * 5 %; but inside it any other promise can be awaited between BEGIN and COMMIT.)
 */

export type UserRow = {
  userId: string
  tier: string
  email: string | null
  perTradeMicros: bigint | null
  dailyMicros: bigint | null
  exposureMicros: bigint | null
  settlement: 'operator' | 'cooperative'
  maxSignaturesPerMinute: bigint | null
  frozenReason: string | null
  frozenAtMs: bigint | null
  createdAtMs: bigint
}

/** What users.put writes of a user. */
export type UserSettings = Omit<UserRow, 'createdAtMs' | 'frozenReason' | 'frozenAtMs'>

export type PrivateKeyPolicy = 'exportable' | 'sign-only'

/** What a use of a credential is decided by, without its envelope. */
export type CredentialState = {
  credentialId: number
  name: string | null
  address: string | null
  privateKeyPolicy: PrivateKeyPolicy
  expiresAtMs: number | null
  revokedAtMs: number | null
  lastUsedAtMs: number | null
  apiSecretRetrievedAtMs: number | null
  privateKeyRetrievedAtMs: number | null
  revision: number
  /** Freezes of the user and of everything. */
  userFrozenReason: string | null
  userFrozenAtMs: number | null
  systemFrozenReason: string | null
  systemFrozenAtMs: number | null
}

export type SealedCredential = {
  credentialId: number
  userId: string
  privateKeyPolicy: PrivateKeyPolicy
  revision: number
  epoch: number
  envelope: Buffer
}

/** A credential without its envelope; money is bigint, so every integer of this row is. */
export type CredentialRow = {
  credentialId: bigint
  userId: string
  name: string | null
  fingerprint: Buffer
  address: string | null
  privateKeyPolicy: PrivateKeyPolicy
  isPrimary: bigint
  dailyLimitMicros: bigint | null
  createdAtMs: bigint
  updatedAtMs: bigint
  expiresAtMs: bigint | null
  revokedAtMs: bigint | null
  revokeReason: string | null
  encryptedAtMs: bigint
  lastUsedAtMs: bigint | null
  apiSecretRetrievedAtMs: bigint | null
  privateKeyRetrievedAtMs: bigint | null
  revision: bigint
}

export type NewCredential = {
  credentialId: number
  userId: string
  name: string | null
  fingerprint: Buffer
  address: string | null
  privateKeyPolicy: PrivateKeyPolicy
  isPrimary: 0 | 1
  dailyLimitMicros: bigint | null
  atMs: number
  expiresAtMs: number | null
  epoch: number
  envelope: Buffer
}

export type AuditRow = {
  seq: number
  atMs: number
  action: string
  userId: string | null
  credentialId: number | null
  outcome: 'ok' | 'denied' | 'error'
  details: string
  peerUid: number | null
  peerGid: number | null
  peerPid: number | null
  peerComm: string | null
  peerUnit: string | null
  client: string | null
  hash: Buffer
  mac: Buffer | null
}

/** `action` is compared as a GLOB made by the caller; null matches everything. Scans `beforeSeq - span <= seq < beforeSeq`. */
export type AuditFilter = {
  beforeSeq: number
  span: number
  userId: string | null
  actionGlob: string | null
  outcome: string | null
  sinceMs: number | null
  untilMs: number | null
  /** JSON arrays of the only users and credentials whose entries are told; null tells all. */
  users: string | null
  credentials: string | null
  limit: number
}

/** A client entry; lists are JSON, `users` is `*` or a JSON array, `credentials` null for no restriction. */
export type ClientRow = {
  clientId: number
  name: string
  uid: number | null
  gid: number | null
  tokenHash: Buffer | null
  users: string
  credentials: string | null
  scopes: string
  expiresAtMs: number | null
  createdAtMs: number
  updatedAtMs: number
  lastUsedAtMs: number | null
}

/** What of a client entry changes. */
export type ClientGrantColumns = Pick<ClientRow, 'users' | 'credentials' | 'scopes' | 'expiresAtMs'>
export type NewClient = ClientGrantColumns &
  Pick<ClientRow, 'name' | 'uid' | 'gid' | 'tokenHash'> & { atMs: number }

/** A key that opens the store, and during a rotation the other one wrapped under it. */
export type MasterKeyRow = {
  epoch: number
  keyId: string
  checkValue: Buffer
  wrappedStoreKey: Buffer
  wrappedOtherKey: Buffer | null
  /** The key file it is about to be put into; null once it is there, or where it goes into none. */
  replacesFile: string | null
}

/** Whether the configured source has itself handed out this key, beside the key. */
export type StoredMasterKey = MasterKeyRow & { sourceHasIt: number }

export type SealingJobKind = 'rotate' | 'reseal'

export type SealingJobRow = {
  jobId: string
  kind: SealingJobKind
  state: 'running' | 'done' | 'failed'
  afterCredentialId: number
  done: number
  failed: number
  total: number
}

/** A user, the credential meant (or none) and the ledger, as a decision about money needs them. */
export type SpendRow = {
  userId: string
  tier: string
  perTradeMicros: bigint | null
  dailyMicros: bigint | null
  exposureMicros: bigint | null
  userHeldMicros: bigint
  userOpenMicros: bigint
  nextExpiryMs: bigint | null
  userFrozenReason: string | null
  userFrozenAtMs: bigint | null
  credentialId: bigint | null
  revokedAtMs: bigint | null
  expiresAtMs: bigint | null
  dailyLimitMicros: bigint | null
  credentialHeldMicros: bigint | null
  /** The ledger's day and what was spent on exactly that day. */
  day: bigint
  /** The day an unfreeze last took the ledger back to: what was spent on later days counts in it. */
  steppedBackDay: bigint | null
  userSpentMicros: bigint | null
  credentialSpentMicros: bigint | null
  /** 1 where something was spent on a day after the ledger's. */
  laterDays: bigint
  systemFrozenReason: string | null
  systemFrozenAtMs: bigint | null
}

export type LedgerRow = {
  day: number
  steppedBackDay: number | null
  frozenReason: string | null
  frozenAtMs: number | null
}

export type ReservationState = 'held' | 'captured' | 'voided' | 'expired'

export type ReservationRow = {
  reservationId: bigint
  userId: string
  credentialId: bigint | null
  amountMicros: bigint
  heldMicros: bigint
  capturedMicros: bigint
  state: ReservationState
  signed: bigint
  digest: Buffer | null
  createdAtMs: bigint
  expiresAtMs: bigint | null
  postHeadersAtMs: bigint | null
  closingMethod: string | null
  closingParams: string | null
  closingAnswer: string | null
}

export type NewReservation = {
  userId: string
  credentialId: bigint | null
  amountMicros: bigint
  atMs: number
  ttlMs: number
}

export type PositionRow = {
  positionId: bigint
  userId: string
  credentialId: bigint | null
  reservationId: bigint | null
  tradeId: string | null
  amountMicros: bigint
  openMicros: bigint
  openedAtMs: bigint
  closedAtMs: bigint | null
}

export type NewPosition = {
  userId: string
  credentialId: bigint | null
  reservationId: bigint | null
  tradeId: string | null
  amountMicros: bigint
  atMs: number
}

/** Where a retry looks for its first answer. */
export type RetryKey = { userId: string; space: string; key: string }

/** Every operation an engine carries out: its params and what it answers. */
export type Operations = {
  storeGet: {
    params: []
    result:
      | {
          storeId: Buffer
          createdAtMs: number
          nextCredentialId: number
          userCount: number
          credentialCount: number
          /** Since when an admin's seal stands; null while none does. */
          sealedAtMs: number | null
        }
      | undefined
  }
  /** Stores a seal, or takes it away. */
  storeSeal: { params: [atMs: number | null]; result: void }
  storeInsert: { params: [storeId: Buffer, atMs: number]; result: void }
  /** Oldest first. */
  masterKeys: { params: []; result: StoredMasterKey[] }
  masterKeyInsert: { params: [row: MasterKeyRow, atMs: number]; result: void }
  masterKeyWrapOther: { params: [epoch: number, wrappedOtherKey: Buffer | null]; result: void }
  masterKeySourceHasIt: { params: [epoch: number, has: boolean]; result: void }
  /** The key is in the file it was to be put into. */
  masterKeyPlaced: { params: [epoch: number]; result: void }
  masterKeyDelete: { params: [epoch: number]; result: void }

  /** The latest job. */
  sealingJobGet: { params: []; result: SealingJobRow | undefined }
  /** Begins a job; what was known of the one before is gone. */
  sealingJobBegin: {
    params: [job: Pick<SealingJobRow, 'jobId' | 'kind' | 'total'>, atMs: number]
    result: void
  }
  sealingJobProgress: {
    params: [progress: Pick<SealingJobRow, 'afterCredentialId' | 'done' | 'failed'>]
    result: void
  }
  sealingJobEnd: { params: [state: 'done' | 'failed', atMs: number]; result: void }

  userGet: { params: [userId: string]; result: UserRow | undefined }
  userInsert: { params: [row: UserSettings, atMs: number]; result: void }
  userUpdate: { params: [row: UserSettings, atMs: number]; result: void }
  usersPage: { params: [afterUserId: string, limit: number]; result: UserRow[] }

  /** Which of these another entry has already; of uids and gids only those of entries without a token count. */
  clientTaken: {
    params: [name: string, uid: number | null, gid: number | null]
    result: 'name' | 'uid' | 'gid' | null
  }
  clientCount: { params: []; result: number }
  clientInsert: { params: [row: NewClient]; result: number }
  clientGet: { params: [clientId: number]; result: ClientRow | undefined }
  clientsPage: { params: [afterId: number, limit: number]; result: ClientRow[] }
  clientUpdate: { params: [clientId: number, grant: ClientGrantColumns, atMs: number]; result: void }
  clientRemove: { params: [clientId: number]; result: void }
  clientUsed: { params: [clientId: number, atMs: number]; result: void }

  credentialAllocateId: { params: []; result: number }
  credentialInsert: { params: [row: NewCredential]; result: void }
  credentialState: { params: [userId: string, credentialId: number]; result: CredentialState | undefined }
  credentialPrimaryState: { params: [userId: string]; result: CredentialState | undefined }
  credentialSealed: { params: [credentialId: number]; result: SealedCredential | undefined }
  /** Envelopes of all users, revoked and expired ones too, in the order of their ids. */
  credentialsSealed: {
    params: [afterId: number, throughId: number, limit: number]
    result: SealedCredential[]
  }
  /** A credential among these ids whose envelope is of another epoch. */
  credentialOfOtherEpoch: {
    params: [afterId: number, throughId: number, epoch: number]
    result: number | undefined
  }
  credentialRow: { params: [userId: string, credentialId: number]; result: CredentialRow | undefined }
  credentialsOfUser: { params: [userId: string, afterId: number, limit: number]; result: CredentialRow[] }
  credentialsAll: { params: [afterId: number, limit: number]; result: CredentialRow[] }
  credentialsExpiring: {
    params: [afterMs: number, afterId: number, untilMs: number, limit: number]
    result: CredentialRow[]
  }
  credentialUnrevokedCount: { params: [userId: string, atMost: number]; result: number }
  credentialAny: { params: [userId: string]; result: boolean }
  credentialWithFingerprint: { params: [userId: string, fingerprint: Buffer]; result: number | undefined }
  credentialWithAddress: { params: [address: string, exceptId: number]; result: number | undefined }
  credentialUsed: { params: [credentialId: number, atMs: number, privateKey: boolean]; result: void }
  credentialEdit: {
    params: [
      credentialId: number,
      edit: {
        name: string | null
        dailyLimitMicros: bigint | null
        expiresAtMs: number | null
        isPrimary: 0 | 1
        atMs: number
      },
    ]
    result: void
  }
  credentialDemotePrimary: { params: [userId: string, atMs: number]; result: void }
  credentialRevoke: { params: [credentialId: number, atMs: number, reason: string | null]; result: void }
  /**
   * Puts a new envelope in the place of the one at `revision`; answers whether that one was still there. A fingerprint
   * (an address) means a new API key (private key): when the old one last left is forgotten.
   */
  credentialReseal: {
    params: [
      credentialId: number,
      revision: number,
      sealed: {
        envelope: Buffer
        epoch: number
        privateKeyPolicy: PrivateKeyPolicy
        fingerprint: Buffer | null
        address: string | null
        atMs: number
        contentChanged: boolean
      },
    ]
    result: boolean
  }

  /**
   * Puts an envelope of the same contents in the place of `before`; answers whether that one was still there. The
   * revision stays, and with it what is opened in memory.
   */
  credentialRenew: {
    params: [before: SealedCredential, renewed: { envelope: Buffer; epoch: number; atMs: number }]
    result: boolean
  }

  userFreeze: { params: [userId: string, reason: string | null, atMs: number | null]; result: void }
  ledgerGet: { params: []; result: LedgerRow }
  ledgerInsert: { params: [day: number]; result: void }
  ledgerDay: { params: [day: number]; result: void }
  /** Takes the ledger's day back. */
  ledgerStepBack: { params: [day: number]; result: void }
  ledgerFreeze: { params: [reason: string | null, atMs: number | null]; result: void }
  spendOfPrimary: { params: [userId: string]; result: SpendRow | undefined }
  spendOf: { params: [userId: string, credentialId: number | bigint | null]; result: SpendRow | undefined }
  userDaysFrom: { params: [userId: string, day: number]; result: { day: bigint; spentMicros: bigint }[] }
  credentialDaysFrom: {
    params: [credentialId: bigint, day: number]
    result: { day: bigint; spentMicros: bigint }[]
  }
  /** The totals of a user's account. The first expiry among his holds has a write of its own: it seldom changes. */
  userTotals: { params: [userId: string, heldMicros: bigint, openMicros: bigint]; result: void }
  userNextExpiry: { params: [userId: string, nextExpiryMs: bigint | null]; result: void }
  credentialHeld: { params: [credentialId: bigint, heldMicros: bigint]; result: void }
  userDayPut: { params: [userId: string, day: number, spentMicros: bigint]; result: void }
  credentialDayPut: { params: [credentialId: bigint, day: number, spentMicros: bigint]; result: void }
  reservationInsert: { params: [row: NewReservation]; result: bigint }
  reservationGet: { params: [reservationId: number | bigint]; result: ReservationRow | undefined }
  reservationUpdate: {
    params: [
      reservationId: bigint,
      change: { heldMicros: bigint; capturedMicros: bigint; state: ReservationState },
      closing: { method: string; params: string; answer: string } | null,
    ]
    result: void
  }
  reservationsDue: { params: [userId: string, atMs: number, limit: number]; result: ReservationRow[] }
  /** The first expiry among a user's holds, null where none has one. */
  reservationsNextExpiry: { params: [userId: string]; result: bigint | null }
  reservationsPage: {
    params: [userId: string, state: ReservationState, after: number, limit: number]
    result: ReservationRow[]
  }
  /** Gives every hold that is over at `atMs` one more ttl, those that had that once excepted; answers how many. */
  reservationsKeep: { params: [atMs: number]; result: number }
  usersDue: { params: [atMs: number, limit: number]; result: string[] }
  positionInsert: { params: [row: NewPosition]; result: bigint }
  positionGet: { params: [userId: string, positionId: number]; result: PositionRow | undefined }
  positionByTrade: { params: [userId: string, tradeId: string]; result: PositionRow | undefined }
  positionClose: { params: [positionId: bigint, openMicros: bigint, closedAtMs: number | null]; result: void }
  positionsPage: {
    params: [userId: string, state: 'open' | 'closed' | null, after: number, limit: number]
    result: PositionRow[]
  }
  retryGet: { params: [key: RetryKey]; result: { params: string; answer: string } | undefined }
  retryInsert: { params: [key: RetryKey, params: string, answer: string]; result: void }
  /** Unrevoked credentials with a daily limit, with what counts against it on `day` or later. */
  usagePage: {
    params: [afterId: number, day: number, limit: number]
    result: {
      credentialId: bigint
      userId: string
      email: string | null
      name: string | null
      limitMicros: bigint
      heldMicros: bigint
      spentMicros: bigint | null
      laterDays: bigint
    }[]
  }
  /** Whether the user has an unrevoked credential with a private key that may leave, or that has left; and any with one. */
  exposureOfKeys: { params: [userId: string]; result: { retrievable: number; signing: number } }

  auditHead: { params: []; result: { seq: number; hash: Buffer; macked: boolean } | undefined }
  auditInsert: { params: [row: AuditRow]; result: void }
  auditSetMac: { params: [seq: number, mac: Buffer]; result: void }
  auditPage: { params: [filter: AuditFilter]; result: AuditRow[] }
  auditRange: { params: [fromSeq: number, limit: number]; result: AuditRow[] }
  auditFailures: {
    params: [
      action: string,
      sinceMs: number,
      after: { atMs: number; seq: number },
      credentials: string | null,
      limit: number,
    ]
    result: { seq: number; atMs: number; userId: string | null }[]
  }
}

export type OperationName = keyof Operations
export type Operation = { readonly name: OperationName; readonly params: readonly unknown[] }

/** A step of work on the store. Its result type is what the generator returns. */
export type Transaction<T> = Generator<Operation, T, unknown>

/** Yields one operation: `const user = yield* perform('userGet', userId)`. */
export function* perform<N extends OperationName>(
  name: N,
  ...params: Operations[N]['params']
): Transaction<Operations[N]['result']> {
  return (yield { name, params }) as Operations[N]['result']
}

/** Operations that change the store; before the first one of a request its savepoint is set. */
export const writes: ReadonlySet<OperationName> = new Set<OperationName>([
  'storeInsert',
  'storeSeal',
  'masterKeyInsert',
  'masterKeyWrapOther',
  'masterKeySourceHasIt',
  'masterKeyPlaced',
  'masterKeyDelete',
  'sealingJobBegin',
  'sealingJobProgress',
  'sealingJobEnd',
  'userInsert',
  'userUpdate',
  'clientInsert',
  'clientUpdate',
  'clientRemove',
  'clientUsed',
  'credentialAllocateId',
  'credentialInsert',
  'credentialUsed',
  'credentialEdit',
  'credentialDemotePrimary',
  'credentialRevoke',
  'credentialReseal',
  'credentialRenew',
  'userFreeze',
  'ledgerInsert',
  'ledgerDay',
  'ledgerStepBack',
  'ledgerFreeze',
  'userTotals',
  'userNextExpiry',
  'credentialHeld',
  'userDayPut',
  'credentialDayPut',
  'reservationInsert',
  'reservationUpdate',
  'reservationsKeep',
  'positionInsert',
  'positionClose',
  'retryInsert',
  'auditInsert',
  'auditSetMac',
])

/**
 * What a store engine offers. Calls may answer at once or with a promise; the group commit awaits only promises. After
 * any error, and before a commit, `inTransaction` says whether the engine rolled everything back by itself.
 */
export type Engine = {
  execute(operation: Operation): unknown
  control(
    statement: 'begin' | 'commit' | 'rollback' | 'savepoint' | 'release' | 'rollbackToSavepoint',
  ): unknown
  readonly inTransaction: boolean
  /** Whether `error` says that the store could not be read or written, as opposed to a bug. */
  isStorageError(error: unknown): boolean
}
