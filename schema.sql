-- purser's store, version 2. One SQLite file, STRICT tables, WAL, synchronous=FULL, opened exclusively by one purserd.
-- Money is INTEGER micro-dollars, times are INTEGER milliseconds since 1970 UTC. This file makes a new store; an older
-- one is brought here step by step by src/store/sqlite/migrate.ts. application_id is "PURS". A check of more than two words
-- is written with OR: for IN (...) SQLite builds a table in memory for every row, 1 us of each audit entry.
PRAGMA application_id = 0x50555253;
PRAGMA user_version = 2;

-- What the master key opens. One row: the store's own id and, wrapped under the master key, the key everything else
-- that must survive a rotation is derived from.
CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  store_id BLOB NOT NULL CHECK (length(store_id) = 16),
  created_at_ms INTEGER NOT NULL,
  next_credential_id INTEGER NOT NULL DEFAULT 1,
  user_count INTEGER NOT NULL DEFAULT 0,
  credential_count INTEGER NOT NULL DEFAULT 0,
  -- A seal outlives restarts: since when, null while nobody has sealed.
  sealed_at_ms INTEGER
) STRICT;

-- Every key that opens the store: one row, and while the old key of a rotation is not retired two, each with the other's
-- key wrapped under its own. source_has_it is 1 once the configured source has handed out this very key. replaces_file is
-- the key file that a new key is about to be put into: until it is there, nothing is sealed under that key.
CREATE TABLE master_keys (
  epoch INTEGER PRIMARY KEY CHECK (epoch >= 1),
  key_id TEXT NOT NULL,
  check_value BLOB NOT NULL,
  wrapped_store_key BLOB NOT NULL,
  created_at_ms INTEGER NOT NULL,
  wrapped_other_key BLOB,
  source_has_it INTEGER NOT NULL DEFAULT 0 CHECK (source_has_it IN (0, 1)),
  replaces_file TEXT
) STRICT;

-- The latest job that seals every credential anew: a rotation of the master key, or a reseal under new Argon2 costs.
-- after_credential_id is how far it has come; total is what there was at its beginning, failed those that do not open.
CREATE TABLE sealing_job (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  job_id TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('rotate', 'reseal')),
  state TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
  after_credential_id INTEGER NOT NULL,
  done INTEGER NOT NULL CHECK (done >= 0),
  failed INTEGER NOT NULL CHECK (failed >= 0),
  total INTEGER NOT NULL CHECK (total >= 0),
  started_at_ms INTEGER NOT NULL,
  finished_at_ms INTEGER
) STRICT;

-- Who may ask for what, besides admins. An entry names a uid, a gid, a token or several of them; of entries told by gid
-- the one added first counts. users is '*' or a JSON array of ids, credentials null or a JSON array, scopes a JSON array.
CREATE TABLE clients (
  client_id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  uid INTEGER CHECK (uid >= 0),
  gid INTEGER CHECK (gid >= 0),
  token_hash BLOB UNIQUE CHECK (length(token_hash) = 32),
  users TEXT NOT NULL,
  credentials TEXT,
  scopes TEXT NOT NULL,
  expires_at_ms INTEGER,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  last_used_at_ms INTEGER,
  CHECK (uid IS NOT NULL OR gid IS NOT NULL OR token_hash IS NOT NULL)
) STRICT;

CREATE TABLE users (
  user_id TEXT PRIMARY KEY,
  tier TEXT NOT NULL,
  email TEXT,
  per_trade_micros INTEGER CHECK (per_trade_micros >= 0),
  daily_micros INTEGER CHECK (daily_micros >= 0),
  exposure_micros INTEGER CHECK (exposure_micros >= 0),
  settlement TEXT NOT NULL CHECK (settlement IN ('operator', 'cooperative')),
  max_signatures_per_minute INTEGER CHECK (max_signatures_per_minute >= 0),
  frozen_reason TEXT,
  frozen_at_ms INTEGER,
  -- Totals of the ledger: what is held, and what is captured or recorded and not closed. next_expiry_ms is no later
  -- than the first expiry among the user's holds, so that a decision before it need not look for holds that are over.
  held_micros INTEGER NOT NULL DEFAULT 0 CHECK (held_micros >= 0),
  open_micros INTEGER NOT NULL DEFAULT 0 CHECK (open_micros >= 0),
  next_expiry_ms INTEGER,
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- revision rises with every act on the envelope: what is cached in memory counts only for the revision it was opened at.
-- A sealing job changes nothing of what is in an envelope, and leaves it.
CREATE TABLE credentials (
  credential_id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id),
  name TEXT,
  fingerprint BLOB NOT NULL,
  address TEXT,
  private_key_policy TEXT NOT NULL CHECK (private_key_policy IN ('exportable', 'sign-only')),
  is_primary INTEGER NOT NULL CHECK (is_primary IN (0, 1)),
  daily_limit_micros INTEGER CHECK (daily_limit_micros >= 0),
  held_micros INTEGER NOT NULL DEFAULT 0 CHECK (held_micros >= 0),
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER,
  revoked_at_ms INTEGER,
  revoke_reason TEXT,
  encrypted_at_ms INTEGER NOT NULL,
  last_used_at_ms INTEGER,
  api_secret_retrieved_at_ms INTEGER,
  private_key_retrieved_at_ms INTEGER,
  revision INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  envelope BLOB NOT NULL
) STRICT;

CREATE INDEX credentials_by_user ON credentials (user_id, credential_id);
CREATE UNIQUE INDEX credentials_primary ON credentials (user_id) WHERE is_primary = 1;
CREATE UNIQUE INDEX credentials_by_fingerprint ON credentials (user_id, fingerprint) WHERE revoked_at_ms IS NULL;
CREATE INDEX credentials_by_address ON credentials (address) WHERE revoked_at_ms IS NULL AND address IS NOT NULL;
CREATE INDEX credentials_by_expiry ON credentials (expires_at_ms, credential_id)
  WHERE revoked_at_ms IS NULL AND expires_at_ms IS NOT NULL;

CREATE INDEX credentials_limited ON credentials (credential_id) WHERE revoked_at_ms IS NULL AND daily_limit_micros IS NOT NULL;
CREATE INDEX users_with_holds ON users (next_expiry_ms) WHERE next_expiry_ms IS NOT NULL;

CREATE TRIGGER users_counted AFTER INSERT ON users BEGIN
  UPDATE store SET user_count = user_count + 1;
END;
CREATE TRIGGER credentials_counted AFTER INSERT ON credentials BEGIN
  UPDATE store SET credential_count = credential_count + 1;
END;

-- The ledger's day (days since 1970, UTC) is the latest one used; it opens a day, and only an admin's unfreeze takes it
-- back. Then stepped_back_day is that day: what was counted on later ones counts in it, and in no day after it but its
-- own, so that a clock that once stood years ahead locks nobody out for years. The system's freeze stands here too, so
-- that every decision reads both at once.
CREATE TABLE ledger (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  day INTEGER NOT NULL,
  stepped_back_day INTEGER,
  frozen_reason TEXT,
  frozen_at_ms INTEGER
) STRICT;

-- What was captured or recorded in each UTC day. Days are kept: one that was used is not fresh when it comes again.
CREATE TABLE user_days (
  user_id TEXT NOT NULL REFERENCES users (user_id),
  day INTEGER NOT NULL,
  spent_micros INTEGER NOT NULL CHECK (spent_micros >= 0),
  PRIMARY KEY (user_id, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE credential_days (
  credential_id INTEGER NOT NULL REFERENCES credentials (credential_id),
  day INTEGER NOT NULL,
  spent_micros INTEGER NOT NULL CHECK (spent_micros >= 0),
  PRIMARY KEY (credential_id, day)
) STRICT, WITHOUT ROWID;

-- held_micros is what is still held; expires_at_ms is null for signed ones, which no timeout frees. closing_* is the
-- very act that closed it and its answer, which that act gets again.
CREATE TABLE reservations (
  reservation_id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id),
  credential_id INTEGER,
  amount_micros INTEGER NOT NULL CHECK (amount_micros > 0),
  held_micros INTEGER NOT NULL CHECK (held_micros >= 0),
  captured_micros INTEGER NOT NULL DEFAULT 0 CHECK (captured_micros >= 0),
  state TEXT NOT NULL CHECK (state = 'held' OR state = 'captured' OR state = 'voided' OR state = 'expired'),
  signed INTEGER NOT NULL DEFAULT 0 CHECK (signed IN (0, 1)),
  digest BLOB,
  created_at_ms INTEGER NOT NULL,
  ttl_ms INTEGER,
  expires_at_ms INTEGER,
  kept INTEGER NOT NULL DEFAULT 0 CHECK (kept IN (0, 1)),
  post_headers_at_ms INTEGER,
  closing_method TEXT,
  closing_params TEXT,
  closing_answer TEXT,
  CHECK (held_micros + captured_micros <= amount_micros),
  CHECK (state = 'held' OR held_micros = 0)
) STRICT;

CREATE INDEX reservations_by_state ON reservations (user_id, state, reservation_id);
CREATE INDEX reservations_due ON reservations (user_id, expires_at_ms) WHERE state = 'held' AND expires_at_ms IS NOT NULL;

CREATE TABLE positions (
  position_id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id),
  credential_id INTEGER,
  reservation_id INTEGER REFERENCES reservations (reservation_id),
  trade_id TEXT,
  amount_micros INTEGER NOT NULL CHECK (amount_micros > 0),
  open_micros INTEGER NOT NULL CHECK (open_micros >= 0 AND open_micros <= amount_micros),
  opened_at_ms INTEGER NOT NULL,
  closed_at_ms INTEGER
) STRICT;

CREATE INDEX positions_by_user ON positions (user_id, position_id);
CREATE INDEX positions_open ON positions (user_id, position_id) WHERE open_micros > 0;
CREATE UNIQUE INDEX positions_by_trade ON positions (user_id, trade_id) WHERE trade_id IS NOT NULL;

-- Accepted acts by the id their caller gave them, for the life of the ledger: space is the method, or 'trade' for trade
-- ids, which capture and record share.
CREATE TABLE retries (
  user_id TEXT NOT NULL,
  space TEXT NOT NULL,
  key TEXT NOT NULL,
  params TEXT NOT NULL,
  answer TEXT NOT NULL,
  PRIMARY KEY (user_id, space, key)
) STRICT, WITHOUT ROWID;

-- The chain: hash = SHA-256(hash before, canonical entry), mac = HMAC of hash on the last entry of a commit, covering
-- those before it (src/audit/). details is the exact text that was hashed.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  action TEXT NOT NULL,
  user_id TEXT,
  credential_id INTEGER,
  outcome TEXT NOT NULL CHECK (outcome = 'ok' OR outcome = 'denied' OR outcome = 'error'),
  details TEXT NOT NULL,
  peer_uid INTEGER,
  peer_gid INTEGER,
  peer_pid INTEGER,
  peer_comm TEXT,
  peer_unit TEXT,
  client TEXT,
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  mac BLOB
) STRICT;

CREATE INDEX audit_by_user ON audit (user_id, seq);
CREATE INDEX audit_failures ON audit (action, at_ms, user_id) WHERE outcome <> 'ok';
