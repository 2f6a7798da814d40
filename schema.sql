-- purser's store, version 1. One SQLite file, STRICT tables, WAL, synchronous=FULL, opened exclusively by one purserd.
-- Money is INTEGER micro-dollars, times are INTEGER milliseconds since 1970 UTC. This file makes a new store; an older
-- one is brought here step by step by src/store/sqlite/migrate.ts. application_id is "PURS".
PRAGMA application_id = 0x50555253;
PRAGMA user_version = 1;

-- What the master key opens. One row: the store's own id and, wrapped under the master key, the key everything else
-- that must survive a rotation is derived from.
CREATE TABLE store (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  store_id BLOB NOT NULL CHECK (length(store_id) = 16),
  created_at_ms INTEGER NOT NULL,
  next_credential_id INTEGER NOT NULL DEFAULT 1,
  user_count INTEGER NOT NULL DEFAULT 0,
  credential_count INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE master_keys (
  epoch INTEGER PRIMARY KEY CHECK (epoch >= 1),
  key_id TEXT NOT NULL,
  check_value BLOB NOT NULL,
  wrapped_store_key BLOB NOT NULL,
  created_at_ms INTEGER NOT NULL
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
  created_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- revision rises whenever the envelope changes: what is cached in memory counts only for the revision it was opened at.
CREATE TABLE credentials (
  credential_id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id),
  name TEXT,
  fingerprint BLOB NOT NULL,
  address TEXT,
  private_key_policy TEXT NOT NULL CHECK (private_key_policy IN ('exportable', 'sign-only')),
  is_primary INTEGER NOT NULL CHECK (is_primary IN (0, 1)),
  daily_limit_micros INTEGER CHECK (daily_limit_micros >= 0),
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

CREATE TRIGGER users_counted AFTER INSERT ON users BEGIN
  UPDATE store SET user_count = user_count + 1;
END;
CREATE TRIGGER credentials_counted AFTER INSERT ON credentials BEGIN
  UPDATE store SET credential_count = credential_count + 1;
END;

-- The chain: hash = SHA-256(hash before, canonical entry), mac = HMAC of hash on the last entry of a commit, covering
-- those before it (src/audit/). details is the exact text that was hashed.
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  action TEXT NOT NULL,
  user_id TEXT,
  credential_id INTEGER,
  outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'denied', 'error')),
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
