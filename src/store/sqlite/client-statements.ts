import type Database from 'better-sqlite3'
import type { ClientRow } from '../operations.ts'
import type { Handlers } from './engine.ts'

type ClientHandlers = Pick<
  Handlers,
  | 'clientTaken'
  | 'clientCount'
  | 'clientInsert'
  | 'clientGet'
  | 'clientsPage'
  | 'clientUpdate'
  | 'clientRemove'
  | 'clientUsed'
>

const columns = `client_id AS clientId, name, uid, gid, token_hash AS tokenHash, users, credentials, scopes,
  expires_at_ms AS expiresAtMs, created_at_ms AS createdAtMs, updated_at_ms AS updatedAtMs,
  last_used_at_ms AS lastUsedAtMs`

/** The SQL of client entries. Read as numbers: there is no money in them. */
export function clientStatements(db: Database.Database): ClientHandlers {
  const numbers = (sql: string) => db.prepare(sql).safeIntegers(false)
  const byName = numbers('SELECT 1 FROM clients WHERE name = ?')
  const byUid = numbers('SELECT 1 FROM clients WHERE uid = ? AND token_hash IS NULL')
  const byGid = numbers('SELECT 1 FROM clients WHERE gid = ? AND token_hash IS NULL')
  const count = numbers('SELECT count(*) AS n FROM clients')
  const insert = numbers(`INSERT INTO clients
    (name, uid, gid, token_hash, users, credentials, scopes, expires_at_ms, created_at_ms, updated_at_ms)
    VALUES (@name, @uid, @gid, @tokenHash, @users, @credentials, @scopes, @expiresAtMs, @atMs, @atMs)
    RETURNING client_id AS id`)
  const get = numbers(`SELECT ${columns} FROM clients WHERE client_id = ?`)
  const page = numbers(`SELECT ${columns} FROM clients WHERE client_id > ? ORDER BY client_id LIMIT ?`)
  const update = db.prepare(`UPDATE clients SET users = @users, credentials = @credentials, scopes = @scopes,
    expires_at_ms = @expiresAtMs, updated_at_ms = @atMs WHERE client_id = @clientId`)
  const remove = db.prepare('DELETE FROM clients WHERE client_id = ?')
  const used = db.prepare('UPDATE clients SET last_used_at_ms = ? WHERE client_id = ?')
  return {
    clientTaken: (name, uid, gid) => {
      if (byName.get(name) !== undefined) return 'name'
      if (uid !== null && byUid.get(uid) !== undefined) return 'uid'
      return gid !== null && byGid.get(gid) !== undefined ? 'gid' : null
    },
    clientCount: () => (count.get() as { n: number }).n,
    clientInsert: (row) => (insert.get(row) as { id: number }).id,
    clientGet: (clientId) => get.get(clientId) as ClientRow | undefined,
    clientsPage: (after, limit) => page.all(after, limit) as ClientRow[],
    clientUpdate: (clientId, grant, atMs) => void update.run({ ...grant, atMs, clientId }),
    clientRemove: (clientId) => void remove.run(clientId),
    clientUsed: (clientId, atMs) => void used.run(atMs, clientId),
  }
}
