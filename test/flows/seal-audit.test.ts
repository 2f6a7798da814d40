import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { chainHash } from '../../src/audit/entry.ts'
import type { AuditRow } from '../../src/store/operations.ts'
import { Story } from './story.ts'

// Without a key no entry has a MAC; that of the unseal vouches for all that was written meanwhile. Whoever can write the
// file, but has no key, alters it while the daemon does not run.

const columns = `seq, at_ms AS atMs, action, user_id AS userId, credential_id AS credentialId, outcome, details,
  peer_uid AS peerUid, peer_gid AS peerGid, peer_pid AS peerPid, peer_comm AS peerComm, peer_unit AS peerUnit,
  client, hash, mac`

type Told = Pick<AuditRow, 'action' | 'details'> & { readonly userId?: string }

async function begin(): Promise<Story> {
  const story = await Story.begin()
  await story.store('alice', 1)
  await story.store('alice', 2)
  await story.chainHolds()
  return story
}

function inStore<T>(story: Story, use: (store: Database.Database) => T): T {
  const store = new Database(`${story.purser.dataDirectory}/purser.db`)
  try {
    return use(store)
  } finally {
    store.close()
  }
}

/** Which entries have a MAC, while the daemon does not run. */
const macked = (story: Story) =>
  inStore(
    story,
    (store) =>
      store.prepare('SELECT action, mac IS NOT NULL AS macked FROM audit ORDER BY seq').all() as {
        action: string
        macked: number
      }[],
  )

/** Appends entries chained as anyone can, without a MAC; answers the number of the first. */
function forge(store: Database.Database, ...entries: Told[]): number {
  let head = store.prepare(`SELECT ${columns} FROM audit ORDER BY seq DESC LIMIT 1`).get() as AuditRow
  const first = head.seq + 1
  for (const { action, details, userId = null } of entries) {
    const row = {
      ...{ seq: head.seq + 1, atMs: head.atMs + 1, action, userId, outcome: 'ok' as const, details },
      ...{ credentialId: null, peerUid: null, peerGid: null, peerPid: null, peerComm: null, peerUnit: null },
      client: null,
    }
    const hash = chainHash(head.hash, row)
    store
      .prepare(
        'INSERT INTO audit (seq, at_ms, action, user_id, outcome, details, hash) VALUES (?, ?, ?, ?, ?, ?, ?)',
      )
      .run(row.seq, row.atMs, action, userId, row.outcome, details, hash)
    head = { ...row, hash, mac: null }
  }
  return first
}

const expectBad = async (story: Story, firstBadSeq: number) =>
  expect(await story.ok('audit.verify')).toMatchObject({ ok: false, firstBadSeq })

describe('what a sealed daemon writes', () => {
  test('has no MAC, over restarts and kills, until that of the unseal covers it', async () => {
    await using story = await begin()
    await story.ok('system.seal')
    await story.ok('system.freeze', { reason: 'stolen' })
    await story.refused('Sealed', 'credentials.retrieve', { userId: 'alice' })
    await story.restart()
    await story.ok('users.freeze', { userId: 'alice', reason: 'x' })
    await story.purser.kill('SIGKILL')
    await story.purser.restart()
    await story.ok('credentials.revoke', { userId: 'alice', credentialId: 2 })
    expect(await story.ok('audit.verify')).toMatchObject({ ok: true, macChecked: false })
    await story.ok('system.unseal')
    await story.chainHolds()
    const entries = await story.entries()
    const sealedAt = entries.findIndex(({ action }) => action === 'system_sealed') + 1
    // From anywhere on, also from within.
    for (let fromSeq = 1; fromSeq <= entries.length; fromSeq++)
      expect(await story.ok('audit.verify', { fromSeq })).toMatchObject({ ok: true })
    await story.purser.kill('SIGTERM')
    const rows = macked(story)
    expect(rows.slice(sealedAt - 1).map(({ action, macked }) => `${action} ${macked}`)).toEqual([
      // The last entry of the time with a key.
      'system_sealed 1',
      'system_frozen 0',
      'api_key_retrieved 0',
      'daemon_stopped 0',
      'daemon_started 0',
      'user_frozen 0',
      'daemon_started 0',
      'api_key_revoked 0',
      'system_unsealed 1',
      'daemon_stopped 1',
    ])
  })

  test('a start by --sealed, and one with a key after it', async () => {
    await using story = await begin()
    await story.purser.kill('SIGTERM')
    const { dataDirectory, masterKey } = story.purser
    const sealedStart = { dataDirectory, masterKey, args: ['--sealed'] }
    {
      await using sealed = await Story.begin(sealedStart)
      expect(sealed.purser.ready).toMatchObject({ sealed: true })
      await sealed.ok('system.freeze', { reason: 'x' })
    }
    // Nobody has sealed it: without the flag it starts with its key, and vouches for the run before.
    await using plain = await Story.begin({ dataDirectory, masterKey })
    expect(plain.purser.ready).toMatchObject({ sealed: false })
    expect(await plain.ok('system.health')).toMatchObject({ status: 'frozen' })
    await plain.chainHolds()
    await plain.purser.kill('SIGKILL')
    await using again = await Story.begin(sealedStart)
    await again.ok('system.unseal', { masterKey })
    await again.chainHolds()
    expect((await again.entries()).at(-2)).toMatchObject({
      action: 'daemon_started',
      details: { sealed: true },
    })
  })
})

describe('forged while it does not run', () => {
  test('entries behind those of an unsealed daemon, whether it starts sealed or not', async () => {
    await using story = await begin()
    let forged = 0
    await story.restart(() => {
      forged = inStore(story, (store) => forge(store, { action: 'user_frozen', details: '{}' }))
    })
    await expectBad(story, forged)
    await story.ok('system.seal')
    await story.restart()
    await story.ok('system.unseal')
    await expectBad(story, forged)
  })

  test('entries behind MACs that were taken away, before a sealed start', async () => {
    await using story = await begin()
    const { dataDirectory, masterKey } = story.purser
    await story.purser.kill('SIGTERM')
    inStore(story, (store) => store.prepare('UPDATE audit SET mac = NULL WHERE seq >= 2').run())
    await using sealed = await Story.begin({ dataDirectory, masterKey, args: ['--sealed'] })
    // Chained it is, and without a key there is nothing else to look at; the MACs that are missing show all the same.
    await expectBad(sealed, 2)
    await sealed.ok('system.unseal')
    await expectBad(sealed, 2)
  })

  test('what no sealed daemon writes, behind a seal or behind a sealed start of its own making', async () => {
    const sealedStart: Told = { action: 'daemon_started', details: '{"sealed":true}' }
    const seal: Told = { action: 'system_sealed', details: '{"stored":false}' }
    const unseal: Told = { action: 'system_unsealed', details: '{}' }
    // The last one ends its seal itself, which without a MAC counts for nothing.
    for (const start of [[], [sealedStart], [seal, unseal]]) {
      await using story = await begin()
      if (start.length === 0) await story.ok('system.seal')
      let forged = 0
      const never = { action: 'api_key_retrieved', details: '{}', userId: 'alice' }
      await story.restart(() => {
        forged = inStore(story, (store) => forge(store, ...start, never, ...(start[1] ? [seal] : [])))
      })
      await story.ok('system.unseal')
      await expectBad(story, forged + Math.min(start.length, 1))
    }
  })

  test('an entry of the sealed time altered, with the chain left as it was', async () => {
    await using story = await begin()
    await story.ok('system.seal')
    await story.ok('system.freeze', { reason: 'x' })
    const seq = await story.headSeq()
    await story.restart(() =>
      inStore(story, (store) => store.prepare("UPDATE audit SET details = '{}' WHERE seq = ?").run(seq)),
    )
    await story.ok('system.unseal')
    await expectBad(story, seq)
  })

  test('a seal taken out of the store: the start with a key shows', async () => {
    await using story = await begin()
    await story.ok('system.seal')
    await story.restart(() =>
      inStore(story, (store) => store.prepare('UPDATE store SET sealed_at_ms = NULL').run()),
    )
    expect(story.purser.ready).toMatchObject({ sealed: false })
    const started = (await story.entries()).findLast(({ action }) => action === 'daemon_started')!
    await expectBad(story, started.seq)
  })

  test('not found, as the head in the log alone shows it: a sealed time forged whole', async () => {
    await using story = await begin()
    await story.restart(() =>
      inStore(story, (store) => {
        store.prepare('DELETE FROM audit WHERE seq > 2').run()
        forge(
          store,
          { action: 'daemon_started', details: '{"sealed":true}' },
          { action: 'users_frozen', details: '{}' },
        )
      }),
    )
    await story.chainHolds()
    const heads = story.purser
      .logs()
      .filter((line) => line.includes('"audit head"'))
      .map((line) => JSON.parse(line))
    const { hash, seq } = heads.at(-1)
    expect((await story.entries()).find((entry) => entry.seq === seq)?.hash).not.toBe(hash)
  })
})
