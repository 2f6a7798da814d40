/**
 * What goes over the wire, method by method: `MethodTable` is the one place a method is added to (its row in
 * resend.ts follows, the compiler asks for it). Names and meanings are those of the wire protocol, version 1.
 */

import type {
  CredentialUsage,
  Position,
  PositionState,
  Remaining,
  Reservation,
  ReservationState,
  SpendStatus,
} from './spend-types.ts'

export type * from './spend-types.ts'

/** 1 to 128 of `A-Z a-z 0-9 . _ : @ -`, or a safe integer >= 0, read as its decimal string. Answers hold the string. */
export type UserId = string | number

/** US dollars as a param: a decimal string with at most 6 fraction digits (`"250.00"`), or a number below 10^9. */
export type UsdParam = string | number

/** US dollars in an answer: a decimal string with 2 to 6 fraction digits (`"250.00"`, `"50.000001"`). */
export type Usd = string

/** RFC 3339; answers are UTC with milliseconds (`2026-11-23T08:00:00.000Z`). As a param: `date.toISOString()`. */
export type Time = string

export type Scope =
  | 'credentials:read'
  | 'credentials:write'
  | 'spend'
  | 'sign'
  | 'settle'
  | 'audit:read'
  | 'freeze'
  | 'admin'

/** The master key of the store and the latest job that sealed every credential anew. */
export type MasterStatus = {
  /** Rises with every rotation. */
  epoch: number
  keyId: string
  /** Whether exactly one key opens the store. */
  oldKeyRetired: boolean
  job: {
    kind: 'rotate' | 'reseal'
    /** `paused` while the daemon is sealed. */
    state: 'running' | 'paused' | 'done' | 'failed'
    done: number
    total: number
  } | null
}

/** Who the daemon takes this connection for. */
export type Identity = {
  uid: number
  gid: number
  pid: number
  /** Name of the client entry that counts, or null. */
  client: string | null
  role: 'admin' | 'client' | 'none'
  /** The users granted, or `"*"`: every user that exists. */
  users: readonly string[] | '*'
  scopes: readonly Scope[]
}

export type Hello = {
  /** Name of the server program. */
  server: string
  version: string
  protocol: 1
  identity: Identity
  sealed: boolean
}

export type Health = {
  status: 'ok' | 'sealed' | 'frozen' | 'degraded'
  checks: Readonly<Record<string, string>>
}

/** `keyId` names the master key, `epoch` is its number; `storeCreated` is whether this made the store. */
export type Unsealed = { sealed: false; keyId: string; epoch: number; storeCreated: boolean }

/** Figures for operators. Only `version` is fixed; what else is there may change between versions. */
export type SystemStatus = { version: string } & Readonly<Record<string, unknown>>

/** An OpenRPC 1.x document. */
export type OpenRpcDocument = {
  openrpc: string
  info: { title: string; version: string }
  methods: readonly ({ name: string } & Readonly<Record<string, unknown>>)[]
} & Readonly<Record<string, unknown>>

/** Why and since when something is frozen; null where it is not. */
export type Frozen = { reason: string; since: Time } | null

export type User = {
  userId: string
  tier: string
  email: string | null
  /** The limits in force: the user's own where set, else the tier's. */
  limits: { perTradeUsd: Usd; dailyUsd: Usd; exposureUsd: Usd }
  /** Who may free signed reservations: an operator, or the user's own bot as well. */
  settlement: 'operator' | 'cooperative'
  frozen: Frozen
  createdAt: Time
}

export type PrivateKeyPolicy = 'exportable' | 'sign-only'
export type CredentialStatus = 'active' | 'revoked' | 'expired'

/** Everything about a credential but its secrets. */
export type CredentialMetadata = {
  credentialId: number
  userId: string
  name: string | null
  status: CredentialStatus
  isPrimary: boolean
  /** Checksummed address of the private key, or null. */
  address: string | null
  /** Equal for equal API keys, tells nothing else. */
  fingerprint: string
  hasPrivateKey: boolean
  privateKeyPolicy: PrivateKeyPolicy
  dailySpendLimitUsd: Usd | null
  createdAt: Time
  updatedAt: Time
  lastUsedAt: Time | null
  expiresAt: Time | null
  revokedAt: Time | null
  revokeReason: string | null
  encryptedAt: Time
  apiSecretRetrievedAt: Time | null
  privateKeyRetrievedAt: Time | null
}

/** An opened credential. JavaScript cannot wipe strings: keep no copies, log none of it. */
export type Credential = {
  credentialId: number
  name: string | null
  apiKey: string
  apiSecret: string
  passphrase: string | null
  /** 0x and 64 hex digits; null where there is none or under `sign-only`. */
  privateKey: string | null
  address: string | null
  expiresAt: Time | null
}

/** A registered program and what it may do; its token is told once, by `clients.add`. */
export type Client = {
  clientId: number
  name: string
  uid: number | null
  gid: number | null
  hasToken: boolean
  users: readonly string[] | '*'
  /** The only credentials granted; null for every one of the users. */
  credentials: readonly number[] | null
  scopes: readonly Scope[]
  expiresAt: Time | null
  createdAt: Time
  updatedAt: Time
  lastUsedAt: Time | null
}

export type AuditOutcome = 'ok' | 'denied' | 'error'

/** One link of the audit chain. */
export type AuditEntry = {
  seq: number
  at: Time
  action: string
  userId: string | null
  credentialId: number | null
  outcome: AuditOutcome
  details: Readonly<Record<string, unknown>>
  /** Null for what the daemon did by itself. `comm` and `unit` are information, never identity. */
  peer: {
    uid: number
    gid: number | null
    pid: number | null
    comm: string | null
    unit: string | null
  } | null
  client: string | null
  hash: string
}

/** Params of every list: where to go on, and how many a page (1 to 1000, default 100). */
export type PageParams = { cursor?: string; limit?: number }

/** A page of a list: `nextCursor` is null on the last one. */
export type Page<Plural extends string, Item> = { readonly [P in Plural]: readonly Item[] } & {
  readonly nextCursor: string | null
}

type Expiry = { expiresInDays?: number; expiresAt?: never } | { expiresAt?: Time; expiresInDays?: never }

/** One of the two names a position. */
type WhichPosition =
  | { positionId: string; tradeId?: never }
  | { tradeId: string | number; positionId?: never }

/** Lets `undefined` stand for an absent optional param: it never reaches the wire. */
type AllowUndefined<P> = { [K in keyof P]: Record<never, never> extends Pick<P, K> ? P[K] | undefined : P[K] }

/** One row of the table. */
export type Method<Params, Result> = { readonly params: AllowUndefined<Params>; readonly result: Result }

type NoParams = Readonly<Record<string, never>>

/** Every method of this version: `group.name` on the wire, `client.group.name(params)` in code. */
export type MethodTable = {
  session: {
    /**
     * Says who calls and presents a token. Give `client` and `token` to `connect` instead: then they are sent
     * again at every reconnection, while what this call says holds for the present connection only.
     */
    hello: Method<{ client?: string; token?: string }, Hello>
  }
  system: {
    /** Answers at once, whatever state the daemon is in. */
    ping: Method<NoParams, { pong: true; at: Time }>
    /** `ok` or what keeps the daemon from granting; open to every caller. */
    health: Method<NoParams, Health>
    /** Figures for operators. Scope: admin. */
    status: Method<NoParams, SystemStatus>
    /** The same and more as Prometheus text; `contentType` is what an exporter sends with it. Scope: admin. */
    metrics: Method<NoParams, { contentType: string; text: string }>
    /**
     * Stops everything that grants money or hands out secrets, until `unfreeze`, over restarts. In force from its
     * answer on, StorageUnavailable included. Scope: freeze.
     */
    freeze: Method<{ reason: string }, { frozen: { reason: string; since: Time } }>
    /** Lifts the freeze of everything and takes the wall clock for right, as the ledger's day too. Scope: admin. */
    unfreeze: Method<NoParams, { frozen: null }>
    /**
     * Wipes the master key and all that was opened with it, until `unseal`, over restarts. In force from its answer on,
     * StorageUnavailable included. Scope: admin.
     */
    seal: Method<NoParams, { sealed: true; since: Time }>
    /**
     * Brings the master key back: `masterKey` (32 bytes as base64, base64url or hex), else the configured source is read
     * again. `create` makes the store of a daemon that has none. A wrong key takes a second. Scope: admin.
     */
    unseal: Method<{ masterKey?: string; create?: boolean }, Unsealed>
  }
  rpc: {
    /** The OpenRPC document of every method, made from the schemas that check. Needs any client entry. */
    discover: Method<NoParams, OpenRpcDocument>
  }
  users: {
    /**
     * Makes or changes a user. What is absent stays (a new user: tier `free`, settlement `operator`); a limit of
     * null goes back to the tier's. Scope: admin.
     */
    put: Method<
      {
        userId: UserId
        tier?: string
        email?: string | null
        limits?: {
          perTradeUsd?: UsdParam | null | undefined
          dailyUsd?: UsdParam | null | undefined
          exposureUsd?: UsdParam | null | undefined
        }
        settlement?: 'operator' | 'cooperative'
        maxSignaturesPerMinute?: number | null
      },
      User
    >
    /** One user. Scope: admin. */
    get: Method<{ userId: UserId }, User>
    /** Every user, page by page; see `client.paginate`. Scope: admin. */
    list: Method<PageParams, Page<'users', User>>
    /** As `system.freeze`, for one user. Scope: freeze. */
    freeze: Method<{ userId: UserId; reason: string }, User>
    /** Lifts the user's freeze; one of everything stays. Scope: admin. */
    unfreeze: Method<{ userId: UserId }, User>
    /** Empties the user's decryption window (see RateLimited). Scope: admin. */
    resetDecryptions: Method<{ userId: UserId }, { cleared: number }>
  }
  credentials: {
    /**
     * Seals a new credential. The user's first is the primary. `address` is derived from `privateKey`. An apiKey
     * the user already holds is a Conflict. Not resent by itself: after a ConnectionLostError or
     * CallTimeoutError, look with `credentials.list` before storing again. Scope: credentials:write.
     */
    store: Method<
      {
        userId: UserId
        apiKey: string
        apiSecret: string
        passphrase?: string
        privateKey?: string
        name?: string
        dailySpendLimitUsd?: UsdParam
        isPrimary?: boolean
        privateKeyPolicy?: PrivateKeyPolicy
      } & Expiry,
      { credentialId: number; fingerprint: string; address: string | null }
    >
    /** Opens a credential, the primary where no id is given. Audited before it answers. Scope: credentials:read. */
    retrieve: Method<{ userId: UserId; credentialId?: number }, Credential>
    /** Metadata of one credential. Any scope on the user. */
    get: Method<{ userId: UserId; credentialId: number }, CredentialMetadata>
    /** Metadata of the credentials granted, page by page. Any scope on the user. */
    list: Method<
      { userId?: UserId; status?: CredentialStatus; encryptedBefore?: Time } & PageParams,
      Page<'credentials', CredentialMetadata>
    >
    /** Unrevoked, not yet expired credentials that expire within so many days, soonest first. */
    expiring: Method<{ withinDays: number } & PageParams, Page<'credentials', CredentialMetadata>>
    /**
     * Changes metadata; null clears. Raising or clearing a limit or an expiry is for admins. Nothing makes a
     * sign-only key exportable again. Scope: credentials:write.
     */
    update: Method<
      {
        userId: UserId
        credentialId: number
        name?: string | null
        dailySpendLimitUsd?: UsdParam | null
        expiresAt?: Time | null
        isPrimary?: true
        privateKeyPolicy?: 'sign-only'
      },
      CredentialMetadata
    >
    /** Ends a credential for good; again, the unchanged metadata. Scope: credentials:write. */
    revoke: Method<{ userId: UserId; credentialId: number; reason?: string }, CredentialMetadata>
    /** Puts new secrets into a credential; an absent passphrase or private key stays. Scope: credentials:write. */
    replace: Method<
      {
        userId: UserId
        credentialId: number
        apiKey: string
        apiSecret: string
        passphrase?: string
        privateKey?: string
      },
      CredentialMetadata
    >
    /** Seals anew with fresh salt, key and nonce: one credential, or all unrevoked ones. Scope: credentials:write. */
    rotate: Method<{ userId: UserId; credentialId?: number }, { rotated: number }>
  }
  spend: {
    /** Whether a reserve of this amount would be granted now; SpendLimitExceeded where not. Scope: spend. */
    check: Method<
      { userId: UserId; credentialId?: number; amountUsd: UsdParam },
      { allowed: true; remaining: Remaining }
    >
    /**
     * Holds an amount on every limit, or SpendLimitExceeded: reserve before you act, then capture or void. Free again
     * after `ttlSeconds` (60; 1 to 86,400). With an `idempotencyKey` a retry is the same act, and is sent by itself
     * when the connection breaks. Scope: spend.
     */
    reserve: Method<
      {
        userId: UserId
        credentialId?: number
        amountUsd: UsdParam
        ttlSeconds?: number
        idempotencyKey?: string
      },
      {
        reservationId: string
        /** As it is now, where the call is a retry. */
        state: ReservationState
        amountUsd: Usd
        expiresAt: Time | null
        remaining: Remaining
      }
    >
    /**
     * Turns a hold into a position: all of it, or `amountUsd` with the rest released, or kept held for the next fill
     * under `final: false`. Give that one a `tradeId`, which makes a retry the same act. Scope: spend or settle.
     */
    capture: Method<
      { reservationId: string; amountUsd?: UsdParam; tradeId?: string | number; final?: boolean },
      { positionId: string; amountUsd: Usd; releasedUsd: Usd; heldUsd: Usd; remaining: Remaining }
    >
    /** Gives back what is held. Scope: spend or settle. */
    void: Method<{ reservationId: string; reason?: string }, { releasedUsd: Usd }>
    /** Counts a buy that has already happened, also past a limit (`overLimit`). Scope: spend. */
    record: Method<
      {
        userId: UserId
        credentialId?: number
        amountUsd: UsdParam
        tradeId?: string | number
        idempotencyKey?: string
      },
      { positionId: string; overLimit: boolean; remaining: Remaining }
    >
    /** Limits and what is used of them; without an id the primary's own daily limit. Any scope on the user. */
    status: Method<{ userId: UserId; credentialId?: number }, SpendStatus>
    /** Unrevoked credentials with a daily limit, most used first. Scope: admin. */
    usage: Method<PageParams, Page<'usage', CredentialUsage>>
  }
  reservations: {
    /** A user's reservations in one state (`held`), oldest first. Scope: spend or settle. */
    list: Method<
      { userId: UserId; state?: ReservationState; signed?: boolean } & PageParams,
      Page<'reservations', Reservation>
    >
  }
  positions: {
    /** A user's positions, oldest first. Scope: spend or settle. */
    list: Method<{ userId: UserId; state?: PositionState } & PageParams, Page<'positions', Position>>
    /**
     * Frees exposure of a position that is no longer open: `amountUsd` of its cost, or all that is open. Scope: spend
     * or settle.
     */
    close: Method<
      { userId: UserId; amountUsd?: UsdParam; idempotencyKey?: string } & WhichPosition,
      { closedUsd: Usd; openUsd: Usd }
    >
  }
  audit: {
    /** Entries, newest first; `action` may end in `*`. Scope: audit:read. */
    query: Method<
      { userId?: UserId; action?: string; outcome?: AuditOutcome; since?: Time; until?: Time } & PageParams,
      Page<'entries', AuditEntry>
    >
    /** Walks the chain; on a long log give a longer `timeoutMs`. Scope: audit:read. */
    verify: Method<
      { fromSeq?: number },
      {
        ok: boolean
        entries: number
        headSeq: number
        headHash: string
        firstBadSeq: number | null
        macChecked: boolean
      }
    >
    /** Users with more than `over` (10) failed retrieves in the last `hours` (24). Scope: audit:read. */
    failures: Method<
      { hours?: number; over?: number },
      { users: readonly { userId: string; failures: number }[] }
    >
  }
  clients: {
    /**
     * Registers a program by uid, gid, a token or several of them, all of which must match. `token` in the answer is
     * shown this once. A taken name, or a taken uid or gid without a token, is a Conflict. Scope: admin.
     */
    add: Method<
      {
        name: string
        uid?: number
        gid?: number
        token?: true
        expiresAt?: Time
        users: readonly UserId[] | '*'
        credentials?: readonly number[]
        scopes: readonly Scope[]
      },
      { clientId: number; token: string | null }
    >
    /** Changes what it may do; null clears. What is taken away is so from the answer on. Scope: admin. */
    update: Method<
      {
        clientId: number
        users?: readonly UserId[] | '*'
        credentials?: readonly number[] | null
        scopes?: readonly Scope[]
        expiresAt?: Time | null
      },
      Client
    >
    /** Every entry, page by page. Scope: admin. */
    list: Method<PageParams, Page<'clients', Client>>
    /** Takes everything from it, from the answer on, StorageUnavailable included. Scope: admin. */
    remove: Method<{ clientId: number }, { clientId: number }>
  }
  master: {
    /**
     * Seals every credential anew under `newMasterKey` (base64, base64url or hex), or under a key of purser's own
     * making where the master key comes from a file that it may replace. The job goes on after the answer: see
     * `status`. Scope: admin.
     */
    rotate: Method<{ newMasterKey?: string }, { jobId: string }>
    /** Seals every credential anew under the same key, at the configured `kdf.*`. Scope: admin. */
    reseal: Method<NoParams, { jobId: string }>
    /** The newest master key, and how far the latest job is. Scope: admin. */
    status: Method<NoParams, MasterStatus>
  }
  backup: {
    /**
     * Writes a consistent copy of the store, mode 0600, at an absolute path that does not exist yet (default: one
     * in the data directory). On a large store give a longer `timeoutMs`. Scope: admin.
     */
    create: Method<{ path?: string }, { path: string; bytes: number; sha256: string; keyId: string }>
  }
}

type MethodsOf<G extends keyof MethodTable> = `${G}.${keyof MethodTable[G] & string}`

/** Every wire name of the table: `'credentials.retrieve'`, ... */
export type MethodName = { [G in keyof MethodTable]: MethodsOf<G> }[keyof MethodTable]

type Row<M extends MethodName> = M extends `${infer G extends keyof MethodTable}.${infer N}`
  ? N extends keyof MethodTable[G]
    ? MethodTable[G][N]
    : never
  : never

type Part<Of, K extends 'params' | 'result'> = Of extends Readonly<Record<K, infer P>> ? P : never

/** Params of a method, by its wire name: `Params<'credentials.retrieve'>`. */
export type Params<M extends MethodName> = Part<Row<M>, 'params'>

/** Result of a method, by its wire name: `Result<'credentials.retrieve'>`. */
export type Result<M extends MethodName> = Part<Row<M>, 'result'>

/** The methods that answer pages. */
export type ListMethod = {
  [M in MethodName]: Result<M> extends { readonly nextCursor: string | null } ? M : never
}[MethodName]

/** What a page of a list method holds: `Item<'users.list'>` is `User`. */
export type Item<M extends ListMethod> = M extends ListMethod
  ? Extract<Result<M>[keyof Result<M>], readonly unknown[]>[number]
  : never
