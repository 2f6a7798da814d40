import type Database from 'better-sqlite3'
import type {
  AuditRow,
  CredentialRow,
  CredentialState,
  SealedCredential,
  SealingJobRow,
  StoredMasterKey,
  UserRow,
} from '../operations.ts'
import { clientStatements } from './client-statements.ts'
import type { Handlers } from './engine.ts'
import { ledgerStatements } from './ledger-statements.ts'

const userColumns = `user_id AS userId, tier, email, per_trade_micros AS perTradeMicros, daily_micros AS dailyMicros,
  exposure_micros AS exposureMicros, settlement, max_signatures_per_minute AS maxSignaturesPerMinute,
  frozen_reason AS frozenReason, frozen_at_ms AS frozenAtMs,
  created_at_ms AS createdAtMs`

// Scalar subqueries, not joins: a second table in FROM costs ten times the whole look-up (measured: 1.1 us becomes 15).
const stateColumns = `credential_id AS credentialId, name, address, private_key_policy AS privateKeyPolicy,
  expires_at_ms AS expiresAtMs, revoked_at_ms AS revokedAtMs, last_used_at_ms AS lastUsedAtMs,
  api_secret_retrieved_at_ms AS apiSecretRetrievedAtMs, private_key_retrieved_at_ms AS privateKeyRetrievedAtMs,
  revision, (SELECT frozen_reason FROM users u WHERE u.user_id = c.user_id) AS userFrozenReason,
  (SELECT frozen_at_ms FROM users u WHERE u.user_id = c.user_id) AS userFrozenAtMs,
  (SELECT frozen_reason FROM ledger) AS systemFrozenReason, (SELECT frozen_at_ms FROM ledger) AS systemFrozenAtMs
  FROM credentials c`

const credentialColumns = `credential_id AS credentialId, user_id AS userId, name, fingerprint, address,
  private_key_policy AS privateKeyPolicy, is_primary AS isPrimary, daily_limit_micros AS dailyLimitMicros,
  created_at_ms AS createdAtMs, updated_at_ms AS updatedAtMs, expires_at_ms AS expiresAtMs,
  revoked_at_ms AS revokedAtMs, revoke_reason AS revokeReason, encrypted_at_ms AS encryptedAtMs,
  last_used_at_ms AS lastUsedAtMs, api_secret_retrieved_at_ms AS apiSecretRetrievedAtMs,
  private_key_retrieved_at_ms AS privateKeyRetrievedAtMs, revision`

const sealedColumns = `credential_id AS credentialId, user_id AS userId, private_key_policy AS privateKeyPolicy, revision,
  epoch, envelope`

const auditColumns = `seq, at_ms AS atMs, action, user_id AS userId, credential_id AS credentialId, outcome, details,
  peer_uid AS peerUid, peer_gid AS peerGid, peer_pid AS peerPid, peer_comm AS peerComm, peer_unit AS peerUnit,
  client, hash, mac`

/**
 * The SQL of every operation. Rows with money keep the database's bigint default; statements without any are read as
 * numbers (`numbers`), which is exact for ids and times below 2^53 and spares the hot path the conversion.
 */
export function statementsOf(db: Database.Database): Handlers {
  return {
    ...storeStatements(db),
    ...sealingJobStatements(db),
    ...userStatements(db),
    ...clientStatements(db),
    ...credentialReads(db),
    ...credentialWrites(db),
    ...ledgerStatements(db),
    ...auditStatements(db),
  }
}

type Part<N extends keyof Handlers> = Pick<Handlers, N>

function storeStatements(
  db: Database.Database,
): Part<
  | 'storeGet'
  | 'storeInsert'
  | 'storeSeal'
  | 'masterKeys'
  | 'masterKeyInsert'
  | 'masterKeyWrapOther'
  | 'masterKeySourceHasIt'
  | 'masterKeyPlaced'
  | 'masterKeyDelete'
> {
  const numbers = (sql: string) => db.prepare(sql).safeIntegers(false)
  const get =
    numbers(`SELECT store_id AS storeId, created_at_ms AS createdAtMs, next_credential_id AS nextCredentialId,
    user_count AS userCount, credential_count AS credentialCount, sealed_at_ms AS sealedAtMs FROM store`)
  const seal = db.prepare('UPDATE store SET sealed_at_ms = ?')
  const insert = db.prepare('INSERT INTO store (id, store_id, created_at_ms) VALUES (1, ?, ?)')
  const keys =
    numbers(`SELECT epoch, key_id AS keyId, check_value AS checkValue, wrapped_store_key AS wrappedStoreKey,
    wrapped_other_key AS wrappedOtherKey, source_has_it AS sourceHasIt, replaces_file AS replacesFile
    FROM master_keys ORDER BY epoch`)
  const insertKey =
    db.prepare(`INSERT INTO master_keys (epoch, key_id, check_value, wrapped_store_key, created_at_ms,
    wrapped_other_key, replaces_file) VALUES (@epoch, @keyId, @checkValue, @wrappedStoreKey, @atMs, @wrappedOtherKey,
    @replacesFile)`)
  const wrapOther = db.prepare('UPDATE master_keys SET wrapped_other_key = ? WHERE epoch = ?')
  const sourceHasIt = db.prepare('UPDATE master_keys SET source_has_it = ? WHERE epoch = ?')
  const placed = db.prepare('UPDATE master_keys SET replaces_file = NULL WHERE epoch = ?')
  const deleteKey = db.prepare('DELETE FROM master_keys WHERE epoch = ?')
  return {
    storeGet: () => get.get() as ReturnType<Handlers['storeGet']>,
    storeInsert: (storeId, atMs) => void insert.run(storeId, atMs),
    storeSeal: (atMs) => void seal.run(atMs),
    masterKeys: () => keys.all() as StoredMasterKey[],
    masterKeyInsert: ({ epoch, keyId, checkValue, wrappedStoreKey, wrappedOtherKey, replacesFile }, atMs) =>
      void insertKey.run({
        epoch,
        keyId,
        checkValue,
        wrappedStoreKey,
        wrappedOtherKey,
        replacesFile,
        atMs,
      }),
    masterKeyWrapOther: (epoch, wrapped) => void wrapOther.run(wrapped, epoch),
    masterKeySourceHasIt: (epoch, has) => void sourceHasIt.run(has ? 1 : 0, epoch),
    masterKeyPlaced: (epoch) => void placed.run(epoch),
    masterKeyDelete: (epoch) => void deleteKey.run(epoch),
  }
}

function sealingJobStatements(
  db: Database.Database,
): Part<'sealingJobGet' | 'sealingJobBegin' | 'sealingJobProgress' | 'sealingJobEnd'> {
  const get = db
    .prepare(`SELECT job_id AS jobId, kind, state, after_credential_id AS afterCredentialId, done, failed, total
    FROM sealing_job`)
    .safeIntegers(false)
  const begin =
    db.prepare(`INSERT OR REPLACE INTO sealing_job (id, job_id, kind, state, after_credential_id, done, failed, total,
    started_at_ms) VALUES (1, ?, ?, 'running', 0, 0, 0, ?, ?)`)
  const progress = db.prepare('UPDATE sealing_job SET after_credential_id = ?, done = ?, failed = ?')
  const end = db.prepare('UPDATE sealing_job SET state = ?, finished_at_ms = ?')
  return {
    sealingJobGet: () => get.get() as SealingJobRow | undefined,
    sealingJobBegin: ({ jobId, kind, total }, atMs) => void begin.run(jobId, kind, total, atMs),
    sealingJobProgress: ({ afterCredentialId, done, failed }) =>
      void progress.run(afterCredentialId, done, failed),
    sealingJobEnd: (state, atMs) => void end.run(state, atMs),
  }
}

function userStatements(db: Database.Database): Part<'userGet' | 'userInsert' | 'userUpdate' | 'usersPage'> {
  const get = db.prepare(`SELECT ${userColumns} FROM users WHERE user_id = ?`)
  const page = db.prepare(`SELECT ${userColumns} FROM users WHERE user_id > ? ORDER BY user_id LIMIT ?`)
  const insert =
    db.prepare(`INSERT INTO users (user_id, tier, email, per_trade_micros, daily_micros, exposure_micros,
    settlement, max_signatures_per_minute, created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
  const update = db.prepare(`UPDATE users SET tier = ?, email = ?, per_trade_micros = ?, daily_micros = ?,
    exposure_micros = ?, settlement = ?, max_signatures_per_minute = ?, updated_at_ms = ? WHERE user_id = ?`)
  return {
    userGet: (userId) => get.get(userId) as UserRow | undefined,
    userInsert: (row, atMs) =>
      void insert.run(
        row.userId,
        row.tier,
        row.email,
        row.perTradeMicros,
        row.dailyMicros,
        row.exposureMicros,
        row.settlement,
        row.maxSignaturesPerMinute,
        atMs,
        atMs,
      ),
    userUpdate: (row, atMs) =>
      void update.run(
        row.tier,
        row.email,
        row.perTradeMicros,
        row.dailyMicros,
        row.exposureMicros,
        row.settlement,
        row.maxSignaturesPerMinute,
        atMs,
        row.userId,
      ),
    usersPage: (after, limit) => page.all(after, limit) as UserRow[],
  }
}

function credentialReads(
  db: Database.Database,
): Part<
  | 'credentialState'
  | 'credentialPrimaryState'
  | 'credentialSealed'
  | 'credentialsSealed'
  | 'credentialOfOtherEpoch'
  | 'credentialRow'
  | 'credentialsOfUser'
  | 'credentialsAll'
  | 'credentialsExpiring'
  | 'credentialUnrevokedCount'
  | 'credentialAny'
  | 'credentialWithFingerprint'
  | 'credentialWithAddress'
> {
  const numbers = (sql: string) => db.prepare(sql).safeIntegers(false)
  const state = numbers(`SELECT ${stateColumns} WHERE c.credential_id = ? AND c.user_id = ?`)
  const primary = numbers(`SELECT ${stateColumns} WHERE c.user_id = ? AND c.is_primary = 1`)
  const sealed = numbers(`SELECT ${sealedColumns} FROM credentials WHERE credential_id = ?`)
  const allSealed =
    numbers(`SELECT ${sealedColumns} FROM credentials WHERE credential_id > ? AND credential_id <= ?
    ORDER BY credential_id LIMIT ?`)
  const ofOtherEpoch =
    numbers(`SELECT credential_id AS id FROM credentials WHERE credential_id > ? AND credential_id <= ?
    AND epoch <> ? LIMIT 1`)
  const row = db.prepare(
    `SELECT ${credentialColumns} FROM credentials WHERE credential_id = ? AND user_id = ?`,
  )
  const ofUser = db.prepare(`SELECT ${credentialColumns} FROM credentials
    WHERE user_id = ? AND credential_id > ? ORDER BY credential_id LIMIT ?`)
  const all = db.prepare(
    `SELECT ${credentialColumns} FROM credentials WHERE credential_id > ? ORDER BY credential_id LIMIT ?`,
  )
  const expiring = db.prepare(`SELECT ${credentialColumns} FROM credentials
    WHERE revoked_at_ms IS NULL AND expires_at_ms IS NOT NULL AND (expires_at_ms, credential_id) > (?, ?) AND expires_at_ms <= ?
    ORDER BY expires_at_ms, credential_id LIMIT ?`)
  const unrevoked = numbers(`SELECT count(*) AS n FROM
    (SELECT 1 FROM credentials WHERE user_id = ? AND revoked_at_ms IS NULL LIMIT ?)`)
  const any = numbers('SELECT 1 FROM credentials WHERE user_id = ? LIMIT 1')
  const byFingerprint = numbers(`SELECT credential_id AS id FROM credentials
    WHERE user_id = ? AND fingerprint = ? AND revoked_at_ms IS NULL`)
  const byAddress = numbers(`SELECT credential_id AS id FROM credentials
    WHERE address = ? AND revoked_at_ms IS NULL AND address IS NOT NULL AND credential_id <> ? LIMIT 1`)
  const id = (found: unknown) => (found as { id: number } | undefined)?.id
  return {
    credentialState: (userId, credentialId) => state.get(credentialId, userId) as CredentialState | undefined,
    credentialPrimaryState: (userId) => primary.get(userId) as CredentialState | undefined,
    credentialSealed: (credentialId) => sealed.get(credentialId) as SealedCredential | undefined,
    credentialsSealed: (after, through, limit) => allSealed.all(after, through, limit) as SealedCredential[],
    credentialOfOtherEpoch: (after, through, epoch) => id(ofOtherEpoch.get(after, through, epoch)),
    credentialRow: (userId, credentialId) => row.get(credentialId, userId) as CredentialRow | undefined,
    credentialsOfUser: (userId, after, limit) => ofUser.all(userId, after, limit) as CredentialRow[],
    credentialsAll: (after, limit) => all.all(after, limit) as CredentialRow[],
    credentialsExpiring: (afterMs, after, untilMs, limit) =>
      expiring.all(afterMs, after, untilMs, limit) as CredentialRow[],
    credentialUnrevokedCount: (userId, atMost) => (unrevoked.get(userId, atMost) as { n: number }).n,
    credentialAny: (userId) => any.get(userId) !== undefined,
    credentialWithFingerprint: (userId, fingerprint) => id(byFingerprint.get(userId, fingerprint)),
    credentialWithAddress: (address, exceptId) => id(byAddress.get(address, exceptId)),
  }
}

function credentialWrites(
  db: Database.Database,
): Part<
  | 'credentialAllocateId'
  | 'credentialInsert'
  | 'credentialUsed'
  | 'credentialEdit'
  | 'credentialDemotePrimary'
  | 'credentialRevoke'
  | 'credentialReseal'
  | 'credentialRenew'
> {
  const allocate = db
    .prepare(
      'UPDATE store SET next_credential_id = next_credential_id + 1 RETURNING next_credential_id - 1 AS id',
    )
    .safeIntegers(false)
  const insert =
    db.prepare(`INSERT INTO credentials (credential_id, user_id, name, fingerprint, address, private_key_policy,
    is_primary, daily_limit_micros, created_at_ms, updated_at_ms, expires_at_ms, encrypted_at_ms, revision, epoch, envelope)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?)`)
  const used = db.prepare(`UPDATE credentials SET last_used_at_ms = @atMs, api_secret_retrieved_at_ms = @atMs,
    private_key_retrieved_at_ms = iif(@privateKey, @atMs, private_key_retrieved_at_ms) WHERE credential_id = @credentialId`)
  const edit = db.prepare(`UPDATE credentials SET name = @name, daily_limit_micros = @dailyLimitMicros,
    expires_at_ms = @expiresAtMs, is_primary = @isPrimary, updated_at_ms = @atMs WHERE credential_id = @credentialId`)
  const demote = db.prepare(
    'UPDATE credentials SET is_primary = 0, updated_at_ms = ? WHERE user_id = ? AND is_primary = 1',
  )
  const revoke =
    db.prepare(`UPDATE credentials SET revoked_at_ms = @atMs, revoke_reason = @reason, updated_at_ms = @atMs
    WHERE credential_id = @credentialId AND revoked_at_ms IS NULL`)
  const reseal = db.prepare(`UPDATE credentials SET envelope = @envelope, epoch = @epoch,
    private_key_policy = @privateKeyPolicy, fingerprint = coalesce(@fingerprint, fingerprint),
    address = coalesce(@address, address), encrypted_at_ms = @atMs,
    updated_at_ms = iif(@contentChanged, @atMs, updated_at_ms), revision = revision + 1,
    api_secret_retrieved_at_ms = iif(@fingerprint IS NULL, api_secret_retrieved_at_ms, NULL),
    private_key_retrieved_at_ms = iif(@address IS NULL, private_key_retrieved_at_ms, NULL)
    WHERE credential_id = @credentialId AND revision = @revision`)
  const renew =
    db.prepare(`UPDATE credentials SET envelope = @envelope, epoch = @epoch, encrypted_at_ms = @atMs
    WHERE credential_id = @credentialId AND revision = @revision AND envelope = @before`)
  return {
    credentialAllocateId: () => (allocate.get() as { id: number }).id,
    credentialInsert: (row) =>
      void insert.run(
        row.credentialId,
        row.userId,
        row.name,
        row.fingerprint,
        row.address,
        row.privateKeyPolicy,
        row.isPrimary,
        row.dailyLimitMicros,
        row.atMs,
        row.atMs,
        row.expiresAtMs,
        row.atMs,
        row.epoch,
        row.envelope,
      ),
    credentialUsed: (credentialId, atMs, privateKey) =>
      void used.run({ credentialId, atMs, privateKey: privateKey ? 1 : 0 }),
    credentialEdit: (credentialId, change) => void edit.run({ ...change, credentialId }),
    credentialDemotePrimary: (userId, atMs) => void demote.run(atMs, userId),
    credentialRevoke: (credentialId, atMs, reason) => void revoke.run({ credentialId, atMs, reason }),
    credentialReseal: (credentialId, revision, sealed) => {
      const contentChanged = sealed.contentChanged ? 1 : 0
      return reseal.run({ ...sealed, contentChanged, credentialId, revision }).changes === 1
    },
    credentialRenew: ({ credentialId, revision, envelope: before }, renewed) =>
      renew.run({ ...renewed, credentialId, revision, before }).changes === 1,
  }
}

function auditStatements(
  db: Database.Database,
): Part<'auditHead' | 'auditInsert' | 'auditSetMac' | 'auditPage' | 'auditRange' | 'auditFailures'> {
  const numbers = (sql: string) => db.prepare(sql).safeIntegers(false)
  const head = numbers('SELECT seq, hash, mac IS NOT NULL AS macked FROM audit ORDER BY seq DESC LIMIT 1')
  const insert =
    db.prepare(`INSERT INTO audit (seq, at_ms, action, user_id, credential_id, outcome, details, peer_uid,
    peer_gid, peer_pid, peer_comm, peer_unit, client, hash, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
  const setMac = db.prepare('UPDATE audit SET mac = ? WHERE seq = ?')
  const filtered = (by: string) =>
    numbers(`SELECT ${auditColumns} FROM audit WHERE ${by} AND seq < @beforeSeq
      AND (@actionGlob IS NULL OR action GLOB @actionGlob) AND (@outcome IS NULL OR outcome = @outcome)
      AND (@sinceMs IS NULL OR at_ms >= @sinceMs) AND (@untilMs IS NULL OR at_ms < @untilMs)
      AND (@users IS NULL OR user_id IN (SELECT value FROM json_each(@users)))
      AND (@credentials IS NULL OR credential_id IN (SELECT value FROM json_each(@credentials)))
      ORDER BY seq DESC LIMIT @limit`)
  const page = filtered('seq >= @beforeSeq - @span')
  const pageOfUser = filtered('user_id = @userId AND seq >= @beforeSeq - @span')
  const range = numbers(`SELECT ${auditColumns} FROM audit WHERE seq >= ? ORDER BY seq LIMIT ?`)
  const failures = numbers(`SELECT seq, at_ms AS atMs, user_id AS userId FROM audit
    WHERE outcome <> 'ok' AND action = @action AND at_ms >= @sinceMs AND (at_ms, seq) > (@atMs, @seq)
    AND (@credentials IS NULL OR credential_id IN (SELECT value FROM json_each(@credentials)))
    ORDER BY at_ms, seq LIMIT @limit`)
  return {
    auditHead: () => {
      const found = head.get() as { seq: number; hash: Buffer; macked: number } | undefined
      return found === undefined
        ? undefined
        : { seq: found.seq, hash: found.hash, macked: found.macked === 1 }
    },
    auditInsert: (row) =>
      mustChangeOne(
        insert.run(
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
          row.hash,
          row.mac,
        ),
      ),
    auditSetMac: (seq, mac) => mustChangeOne(setMac.run(mac, seq)),
    auditPage: ({ userId, ...filter }) =>
      (userId === null ? page.all(filter) : pageOfUser.all({ ...filter, userId })) as AuditRow[],
    auditRange: (fromSeq, limit) => range.all(fromSeq, limit) as AuditRow[],
    auditFailures: (action, sinceMs, after, credentials, limit) =>
      failures.all({ action, sinceMs, atMs: after.atMs, seq: after.seq, credentials, limit }) as {
        seq: number
        atMs: number
        userId: string | null
      }[],
  }
}

/** A statement may succeed and do nothing, as where a trigger in the file says RAISE(IGNORE): that is no entry. */
function mustChangeOne({ changes }: Database.RunResult): void {
  if (changes !== 1) throw new Error('the audit entry was not written')
}
