import { chmodSync, closeSync, constants, fsyncSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import type Database from 'better-sqlite3'
import { StartError } from '../../errors.ts'

/** One step from schema version `from` to `from + 1`. */
export type Migration = { readonly from: number; readonly sql: string }

/** Every step there is, oldest first. What it makes is what schema.sql of that version makes, which a test compares. */
export const migrations: readonly Migration[] = [{ from: 1, sql: clientsAndRotation() + fasterChecks() }]

/** Version 2: client entries, seals that outlive restarts, and rotation of the master key. */
function clientsAndRotation(): string {
  return `
ALTER TABLE store ADD COLUMN sealed_at_ms INTEGER;
ALTER TABLE master_keys ADD COLUMN wrapped_other_key BLOB;
ALTER TABLE master_keys ADD COLUMN source_has_it INTEGER NOT NULL DEFAULT 0 CHECK (source_has_it IN (0, 1));
ALTER TABLE master_keys ADD COLUMN replaces_file TEXT;
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
`
}

/** Version 2 too: for a list of more than two words SQLite builds a table in memory at each row it checks. */
function fasterChecks(): string {
  return `
CREATE TABLE reservations_new (
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
INSERT INTO reservations_new SELECT * FROM reservations;
DROP TABLE reservations;
ALTER TABLE reservations_new RENAME TO reservations;
CREATE INDEX reservations_by_state ON reservations (user_id, state, reservation_id);
CREATE INDEX reservations_due ON reservations (user_id, expires_at_ms) WHERE state = 'held' AND expires_at_ms IS NOT NULL;
CREATE TABLE audit_new (
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
INSERT INTO audit_new SELECT * FROM audit;
DROP TABLE audit;
ALTER TABLE audit_new RENAME TO audit;
CREATE INDEX audit_by_user ON audit (user_id, seq);
CREATE INDEX audit_failures ON audit (action, at_ms, user_id) WHERE outcome <> 'ok';
`
}

/**
 * Brings `database` from version `found` to `wanted` in one transaction, after writing a whole copy of it beside the
 * store (0600), which stays. Answers the copy's path. Nothing is changed where a step fails.
 */
export function migrate(
  database: Database.Database,
  path: string,
  found: number,
  wanted: number,
  steps: readonly Migration[],
): string {
  const chosen = Array.from({ length: wanted - found }, (_, offset) =>
    steps.find((step) => step.from === found + offset),
  )
  if (chosen.some((step) => step === undefined)) {
    throw new StartError(
      'storeUnusable',
      `${path} has schema version ${found}, which this purser cannot bring to ${wanted}`,
      'install the purser versions in between, one after the other',
    )
  }
  const copy = `${path}.v${found}-${new Date().toISOString().replace(/[-:.]/g, '')}`
  database.prepare('VACUUM INTO ?').run(copy)
  chmodSync(copy, 0o600)
  // VACUUM INTO syncs nothing, and the copy must not be younger on disk than what it is kept for.
  sync(copy, constants.O_RDONLY)
  sync(dirname(copy), constants.O_RDONLY | constants.O_DIRECTORY)
  // A step that makes a table anew drops the old one, and with it would go the rows that refer to it.
  database.pragma('foreign_keys = OFF')
  database.exec('BEGIN IMMEDIATE')
  try {
    for (const step of chosen) database.exec(step!.sql)
    if ((database.pragma('foreign_key_check') as unknown[]).length > 0)
      throw new Error('a migration left dangling references')
    database.pragma(`user_version = ${wanted}`)
    database.exec('COMMIT')
  } catch (error) {
    if (database.inTransaction) database.exec('ROLLBACK')
    throw error
  } finally {
    database.pragma('foreign_keys = ON')
  }
  return copy
}

function sync(path: string, flags: number): void {
  const fd = openSync(path, flags)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
