import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import Database from 'better-sqlite3'

/** Puts `rows` more credentials into a stopped store, sealed by nobody: they are there to be many, not to be opened. */
export function fill(directory, rows) {
  if (rows === 0) return
  const db = new Database(join(directory, 'purser.db'))
  db.pragma('synchronous = OFF')
  const users = db.prepare(
    `INSERT INTO users (user_id, tier, settlement, created_at_ms, updated_at_ms) VALUES (?, 'free', 'operator', 0, 0)`,
  )
  const credentials =
    db.prepare(`INSERT INTO credentials (credential_id, user_id, name, fingerprint, private_key_policy,
    is_primary, created_at_ms, updated_at_ms, encrypted_at_ms, revision, epoch, envelope)
    VALUES (?, ?, 'filler', ?, 'exportable', 1, 0, 0, ?, 1, 1, ?)`)
  const envelope = randomBytes(260)
  db.exec('BEGIN')
  for (let index = 0; index < rows; index++) {
    const id = 1_000_000 + index
    users.run(`filler${id}`)
    credentials.run(id, `filler${id}`, randomBytes(32), Date.now(), envelope)
  }
  db.exec(`UPDATE store SET next_credential_id = ${2_000_000 + rows}`)
  db.exec('COMMIT')
  db.close()
}
