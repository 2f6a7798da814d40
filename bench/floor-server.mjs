// The floor a cached retrieve is held against: a json-rpc-2.0 server over the same socket that group-commits with
// synchronous=FULL, writes the same audit row (chained, MACed once a commit, same indexes) and answers as many bytes,
// and does nothing else: no identity, no schema, no cache, no look at the credential, no secret handling.
// argv: directory, socket, length of the answer in bytes; then `single` for one commit a request, as most services do.
import { createHmac, createSecretKey, hash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { JSONRPCServer } from 'json-rpc-2.0'
import { readLines } from './lines.mjs'

const [directory, socketPath, answerLength, mode] = process.argv.slice(2)
const db = new Database(join(directory, 'floor.db'))
db.pragma('locking_mode = EXCLUSIVE')
db.pragma('journal_mode = WAL')
db.pragma('synchronous = FULL')
const schema = readFileSync(new URL('../schema.sql', import.meta.url), 'utf8')
db.exec(schema.slice(schema.indexOf('CREATE TABLE audit')))
const insert =
  db.prepare(`INSERT INTO audit (seq, at_ms, action, user_id, credential_id, outcome, details, peer_uid, peer_gid,
  peer_pid, peer_comm, peer_unit, client, hash, mac) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
const setMac = db.prepare('UPDATE audit SET mac = ? WHERE seq = ?')
const [begin, commit] = [db.prepare('BEGIN IMMEDIATE'), db.prepare('COMMIT')]
const key = createSecretKey(randomBytes(32))
let seq = 0
let head = Buffer.alloc(32)
const waiting = []

function audit(userId) {
  seq++
  const atMs = Date.now()
  const details = '{"privateKey":true}'
  const text = Buffer.from(
    JSON.stringify([
      seq,
      atMs,
      'api_key_retrieved',
      userId,
      1,
      'ok',
      details,
      0,
      0,
      1234,
      'node',
      null,
      'bench',
    ]),
  )
  const input = Buffer.allocUnsafe(32 + text.length)
  head.copy(input)
  text.copy(input, 32)
  head = hash('sha256', input, 'buffer')
  insert.run(
    seq,
    atMs,
    'api_key_retrieved',
    userId,
    1,
    'ok',
    details,
    0,
    0,
    1234,
    'node',
    null,
    'bench',
    head,
    null,
  )
}

const padding = 'x'.repeat(Math.max(0, Number(answerLength) - 48))
const server = new JSONRPCServer()
for (const method of ['credentials.retrieve', 'spend.reserve']) {
  server.addMethod(method, ({ userId }) => {
    audit(userId)
    return { padding }
  })
}

/** One transaction for all requests read in this turn; their answers leave after its commit. */
function turn() {
  const batch = mode === 'single' ? waiting.splice(0, 1) : waiting.splice(0)
  if (waiting.length > 0) setImmediate(turn)
  begin.run()
  const answers = batch.map(({ request }) => server.receive(request))
  setMac.run(createHmac('sha256', key).update(head).digest(), seq)
  commit.run()
  for (const [index, answer] of answers.entries())
    answer.then((response) => batch[index].socket.write(`${JSON.stringify(response)}\n`))
}

net
  .createServer((socket) => {
    readLines(socket, (line) => {
      if (waiting.length === 0) setImmediate(turn)
      waiting.push({ socket, request: JSON.parse(line) })
    })
    socket.on('error', () => socket.destroy())
  })
  .listen(socketPath, () => process.stdout.write('ready\n'))
