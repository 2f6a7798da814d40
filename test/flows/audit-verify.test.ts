import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { chainHash } from '../../src/audit/entry.ts'
import type { AuditRow } from '../../src/store/operations.ts'
import { apiSecret } from '../support/flow.ts'
import { Story, sample } from './story.ts'

// Whoever can write the store's file, but has no key, alters the audit log while the daemon does not run. Whatever he
// does, a verification finds it; only a cut-off tail looks whole, and shows against the head in the daemon's log.

const columns = `seq, at_ms AS atMs, action, user_id AS userId, credential_id AS credentialId, outcome, details,
  peer_uid AS peerUid, peer_gid AS peerGid, peer_pid AS peerPid, peer_comm AS peerComm, peer_unit AS peerUnit,
  client, hash, mac`

async function begin(): Promise<Story> {
  const story = await Story.begin()
  for (let fill = 1; fill <= 8; fill++) await story.store('alice', fill)
  await story.chainHolds()
  return story
}

function tamper(story: Story, alter: (store: Database.Database) => void): Promise<void> {
  return story.restart(() => {
    const store = new Database(`${story.purser.dataDirectory}/purser.db`)
    alter(store)
    store.close()
  })
}

/** Chains the entries from `seq` on anew, as anyone can. */
function chainAnew(store: Database.Database, seq: number): void {
  const rows = store
    .prepare(`SELECT ${columns} FROM audit WHERE seq >= ? ORDER BY seq`)
    .all(seq - 1) as AuditRow[]
  const set = store.prepare('UPDATE audit SET hash = ? WHERE seq = ?')
  let previous = rows[0]!.hash
  for (const row of rows.slice(1)) {
    previous = chainHash(previous, row)
    set.run(previous, row.seq)
  }
}

async function expectBad(story: Story, firstBadSeq: number): Promise<void> {
  expect(await story.ok('audit.verify')).toMatchObject({ ok: false, firstBadSeq })
}

describe('audit.verify', () => {
  test('what it says of a chain that holds', async () => {
    await using story = await begin()
    const entries = await story.entries()
    const head = entries.at(-1)!
    expect(await story.ok('audit.verify')).toEqual({
      ok: true,
      entries: entries.length,
      headSeq: head.seq,
      headHash: head.hash,
      firstBadSeq: null,
      macChecked: true,
    })
    expect(await story.ok('audit.verify', { fromSeq: 4 })).toMatchObject({
      ok: true,
      entries: entries.length - 3,
      headSeq: head.seq,
      headHash: head.hash,
    })
    expect(await story.ok('audit.verify', { fromSeq: head.seq })).toMatchObject({ ok: true, entries: 1 })
    expect(await story.ok('audit.verify', { fromSeq: head.seq + 1 })).toMatchObject({
      ok: true,
      entries: 0,
      headSeq: head.seq,
      headHash: head.hash,
      macChecked: false,
    })
    await story.refused('NotFound', 'audit.verify', { fromSeq: head.seq + 2 })
  })

  test('an edited entry', async () => {
    await using story = await begin()
    await tamper(story, (store) => store.prepare("UPDATE audit SET user_id = 'bob' WHERE seq = 5").run())
    await expectBad(story, 5)
    // From behind it the rest holds, from before it does not.
    expect(await story.ok('audit.verify', { fromSeq: 6 })).toMatchObject({ ok: true })
    expect(await story.ok('audit.verify', { fromSeq: 5 })).toMatchObject({ ok: false, firstBadSeq: 5 })
  })

  test('an entry deleted', async () => {
    await using story = await begin()
    await tamper(story, (store) => store.prepare('DELETE FROM audit WHERE seq = 5').run())
    await expectBad(story, 5)
  })

  test('an entry forged and the chain made anew: the MACs do not fit', async () => {
    await using story = await begin()
    await tamper(story, (store) => {
      store.prepare("UPDATE audit SET user_id = 'bob' WHERE seq = 5").run()
      chainAnew(store, 5)
    })
    await expectBad(story, 5)
  })

  test('the same with the MACs taken away: the next start does not vouch for what it found', async () => {
    await using story = await begin()
    await tamper(story, (store) => {
      store.prepare("UPDATE audit SET user_id = 'bob' WHERE seq = 5").run()
      chainAnew(store, 5)
      store.prepare('UPDATE audit SET mac = NULL WHERE seq >= 5').run()
    })
    await expectBad(story, 5)
    await story.ok('users.put', { userId: 'carol' })
    await story.restart()
    await expectBad(story, 5)
  })

  test('an entry added at the end, chained but without a MAC', async () => {
    await using story = await begin()
    let forged = 0
    await tamper(story, (store) => {
      const row = store.prepare(`SELECT ${columns} FROM audit ORDER BY seq DESC LIMIT 1`).get() as AuditRow
      forged = row.seq + 1
      const next = {
        ...row,
        seq: forged,
        action: 'api_key_revoked',
        userId: 'alice',
        details: '{}',
        mac: null,
      }
      store
        .prepare(`INSERT INTO audit (seq, at_ms, action, user_id, outcome, details, hash)
          VALUES (?, ?, ?, ?, ?, ?, ?)`)
        .run(
          forged,
          next.atMs,
          next.action,
          next.userId,
          next.outcome,
          next.details,
          chainHash(row.hash, next),
        )
    })
    await expectBad(story, forged)
  })

  test('a whole chain of another store of the same master key', async () => {
    await using story = await begin()
    await using other = await Story.begin({ masterKey: story.purser.masterKey })
    for (let fill = 1; fill <= 3; fill++) await other.store('alice', fill)
    await other.restart()
    const from = `${other.purser.dataDirectory}/purser.db`
    await other.purser.kill('SIGTERM')
    await tamper(story, (store) => {
      store.prepare('ATTACH ? AS other').run(from)
      store.exec('DELETE FROM audit; INSERT INTO audit SELECT * FROM other.audit')
    })
    await expectBad(story, 1)
  })

  test('a tail cut off looks whole, but for the head in the log', async () => {
    await using story = await begin()
    let cutSeq = 0
    await tamper(story, (store) => {
      cutSeq = store.prepare('SELECT max(seq) FROM audit').pluck().get() as number
      store.prepare('DELETE FROM audit WHERE seq > 5').run()
    })
    expect(await story.ok('audit.verify')).toMatchObject({ ok: true })
    const logged = story.purser
      .logs()
      .filter((line) => line.includes('"audit head"'))
      .map((line) => JSON.parse(line))
    // What the daemon said at its stop is not what now stands there.
    expect(logged.at(-1)).toMatchObject({ seq: cutSeq })
    const entries = await story.entries()
    expect(entries.find(({ seq }) => seq === cutSeq)?.hash).not.toBe(logged.at(-1).hash)
  })
})

test('never cries wolf: verifications in the midst of other work', async () => {
  await using story = await Story.begin()
  for (let fill = 0; fill < 4; fill++) await story.store('alice', fill)
  const request = (id: string, method: string, params: object) => ({ jsonrpc: '2.0', id, method, params })
  const clients = Array.from({ length: 3 }, () => story.connect())
  for (let round = 0; round < 20; round++) {
    for (const client of clients) {
      const work = Array.from({ length: 5 }, (_, n) =>
        request(`w${n}`, 'credentials.retrieve', { userId: 'alice' }),
      )
      const batch = [
        ...work,
        request('v1', 'audit.verify', {}),
        ...work,
        request('v2', 'audit.verify', {}),
        ...work,
      ]
      // Both as lines, which share a turn with those of the others, and as a batch.
      if (round % 2 === 0) client.send(`${JSON.stringify(batch)}\n`)
      else client.send(batch.map((one) => `${JSON.stringify(one)}\n`).join(''))
    }
    for (const client of clients) {
      const answers =
        round % 2 === 0
          ? [await client.answer()].flat()
          : (await Promise.all(Array.from({ length: 17 }, () => client.answer()))).flat()
      const verified = answers.filter(({ id }) => String(id).startsWith('v'))
      expect(verified).toHaveLength(2)
      for (const { result } of verified) expect(result).toMatchObject({ ok: true, macChecked: true })
    }
  }
})

test('a long chain, in slices', async () => {
  await using story = await Story.begin({ config: { decrypt: { limit: 100_000 } } })
  await story.store('alice', 1)
  await story.ok('credentials.retrieve', { userId: 'alice' })
  const line = `${JSON.stringify(Array.from({ length: 100 }, (_, id) => ({ jsonrpc: '2.0', id, method: 'credentials.retrieve', params: { userId: 'alice' } })))}\n`
  for (let n = 0; n < 25; n++) {
    story.main.send(line)
    await story.main.answer()
  }
  const { entries } = await story.ok('audit.verify')
  expect(entries).toBe(2503)
  // It does not keep others waiting, nor do others make it fail.
  const other = story.connect()
  const verified = story.ok('audit.verify', {}, other)
  for (let n = 0; n < 50; n++) await story.ok('credentials.retrieve', { userId: 'alice' })
  expect(await verified).toMatchObject({ ok: true, macChecked: true })
  await story.refused('Conflict', 'credentials.store', { ...sample('alice', 1), apiSecret: apiSecret(2) })
  await story.chainHolds()
})
