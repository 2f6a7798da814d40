import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { Story } from './story.ts'

// A ciphertext means one thing. The store's file is altered while the daemon does not run; what was altered does not
// open, says so without a word of why, and harms nothing beside it.

const [{ privateKey, address }] = hardhatKeys

function onStore(story: Story, alter: (store: Database.Database) => void): Promise<void> {
  return story.restart(() => {
    const store = new Database(`${story.purser.dataDirectory}/purser.db`)
    store.pragma('foreign_keys = OFF')
    try {
      alter(store)
    } finally {
      store.close()
    }
  })
}

function envelopeOf(store: Database.Database, id: number): Buffer {
  return store.prepare('SELECT envelope FROM credentials WHERE credential_id = ?').pluck().get(id) as Buffer
}

/** The envelope as it is now, out of a copy of the files of a daemon that runs. */
function envelopeWhileRunning(story: Story, id: number): Buffer {
  const copy = join(story.purser.directory, `copy-${id}`)
  mkdirSync(copy)
  for (const name of ['purser.db', 'purser.db-wal'])
    copyFileSync(join(story.purser.dataDirectory, name), join(copy, name))
  const store = new Database(join(copy, 'purser.db'))
  try {
    return Buffer.from(envelopeOf(store, id))
  } finally {
    store.close()
  }
}

function setEnvelope(store: Database.Database, id: number, envelope: Buffer): void {
  store.prepare('UPDATE credentials SET envelope = ? WHERE credential_id = ?').run(envelope, id)
}

async function expectDamaged(story: Story, userId: string, credentialId: number): Promise<void> {
  const told = await story.audited(async () => {
    const error = await story.refused('DecryptionFailed', 'credentials.retrieve', { userId, credentialId })
    expect(error).toEqual({
      code: 2005,
      message: expect.any(String),
      data: { type: 'DecryptionFailed', retryable: false, hint: expect.any(String), credentialId },
    })
  })
  expect(told).toHaveLength(1)
  expect(told[0]).toMatchObject({
    action: 'api_key_retrieved',
    userId,
    credentialId,
    outcome: 'error',
    details: { error: 'DecryptionFailed' },
  })
}

describe('an altered envelope', () => {
  test('does not open, whichever part of it a bit was flipped in', async () => {
    await using story = await Story.begin()
    /** Byte, counted from the end where negative. Version 0, epoch 1-4, cost 5-12, salt 13-28, nonce 29-40, tag last 16. */
    const bytes = [0, 1, 4, 8, 12, 13, 28, 29, 40, 41, 42, 60, -17, -16, -1]
    for (let fill = 1; fill <= bytes.length + 1; fill++) await story.store('alice', fill, { privateKey })
    await onStore(story, (store) => {
      for (const [index, byte] of bytes.entries()) {
        const envelope = envelopeOf(store, index + 1)
        envelope[byte < 0 ? envelope.length + byte : byte]! ^= 1
        setEnvelope(store, index + 1, envelope)
      }
    })
    for (const index of bytes.keys()) await expectDamaged(story, 'alice', index + 1)
    expect(
      await story.ok('credentials.retrieve', { userId: 'alice', credentialId: bytes.length + 1 }),
    ).toMatchObject({
      privateKey,
    })
    await story.chainHolds()
  })

  test('does not open when cut, emptied or lengthened, or when its cost is beyond all bounds', async () => {
    await using story = await Story.begin()
    const alterations: ((envelope: Buffer) => Buffer)[] = [
      () => Buffer.alloc(0),
      (envelope) => envelope.subarray(0, 1),
      (envelope) => envelope.subarray(0, 57),
      (envelope) => envelope.subarray(0, -1),
      (envelope) => Buffer.concat([envelope, Buffer.alloc(1)]),
      (envelope) => Buffer.concat([envelope, envelope]),
      () => Buffer.alloc(1_000_000, 1),
      (envelope) => Buffer.concat([envelope.subarray(0, 5), Buffer.alloc(8, 0xff), envelope.subarray(13)]),
      (envelope) => Buffer.concat([envelope.subarray(0, 5), Buffer.alloc(8), envelope.subarray(13)]),
    ]
    for (const fill of alterations.keys()) await story.store('alice', fill)
    await onStore(story, (store) => {
      for (const [index, alter] of alterations.entries())
        setEnvelope(store, index + 1, alter(envelopeOf(store, index + 1)))
    })
    for (const index of alterations.keys()) await expectDamaged(story, 'alice', index + 1)
  })
})

describe('an envelope in another place', () => {
  let story: Story
  /** Ids of credentials by what was done to them. */
  const ids = new Map<string, number>()

  beforeAll(async () => {
    story = await Story.begin()
    await using other = await Story.begin({ masterKey: story.purser.masterKey })
    const store = async (what: string, more: Record<string, unknown> = {}) => {
      ids.set(what, await story.store('alice', ids.size, more))
    }
    for (const what of ['swapped', 'with it', 'to another user', 'to another id', 'of another store'])
      await store(what)
    await store('exportable by UPDATE', { privateKey, privateKeyPolicy: 'sign-only' })
    await store('sign-only by UPDATE', { privateKey })
    await store('of before sign-only', { privateKey })
    await store('untouched', { privateKey })
    await story.ok('users.put', { userId: 'mallory' })
    // The same user, id and master key over there.
    const id = (what: string) => ids.get(what)!
    for (let fill = 0; fill < id('of another store'); fill++) await other.store('alice', fill)
    const foreign = envelopeWhileRunning(other, id('of another store'))
    const before = envelopeWhileRunning(story, id('of before sign-only'))
    await story.ok('credentials.update', {
      userId: 'alice',
      credentialId: id('of before sign-only'),
      privateKeyPolicy: 'sign-only',
    })
    await onStore(story, (database) => {
      const [one, two] = [envelopeOf(database, id('swapped')), envelopeOf(database, id('with it'))]
      setEnvelope(database, id('swapped'), two)
      setEnvelope(database, id('with it'), one)
      setEnvelope(database, id('of another store'), foreign)
      setEnvelope(database, id('of before sign-only'), before)
      const set = (column: string, value: unknown, what: string) =>
        database.prepare(`UPDATE credentials SET ${column} = ? WHERE credential_id = ?`).run(value, id(what))
      set('user_id', 'mallory', 'to another user')
      set('private_key_policy', 'exportable', 'exportable by UPDATE')
      set('private_key_policy', 'sign-only', 'sign-only by UPDATE')
      set('credential_id', 4711, 'to another id')
    })
  })
  afterAll(() => story[Symbol.asyncDispose]())

  test.each([
    'swapped',
    'with it',
    'of another store',
    'exportable by UPDATE',
    'sign-only by UPDATE',
    'of before sign-only',
  ])('%s', async (what) => {
    await expectDamaged(story, 'alice', ids.get(what)!)
  })

  test('moved to another user, with its row', () =>
    expectDamaged(story, 'mallory', ids.get('to another user')!))

  test('moved to another id, with its row', () => expectDamaged(story, 'alice', 4711))

  test('and one that was not touched opens', async () => {
    const one = { userId: 'alice', credentialId: ids.get('untouched') }
    expect(await story.ok('credentials.retrieve', one)).toMatchObject({ privateKey })
    await story.chainHolds()
  })
})

describe('with a damaged credential', () => {
  async function damaged(): Promise<Story> {
    const story = await Story.begin()
    for (const fill of [1, 2, 3, 4]) await story.store('alice', fill, { privateKey, passphrase: 'p' })
    await onStore(story, (store) => {
      for (const id of [2, 4]) setEnvelope(store, id, Buffer.alloc(100, 7))
    })
    return story
  }

  test('what needs the old secrets fails, what does not works', async () => {
    await using story = await damaged()
    const one = { userId: 'alice', credentialId: 2 }
    const secrets = { apiKey: 'new', apiSecret: apiSecret(77) }
    const told = await story.audited(async () => {
      await story.refused('DecryptionFailed', 'credentials.replace', { ...one, ...secrets })
      await story.refused('DecryptionFailed', 'credentials.rotate', one)
      await story.refused('DecryptionFailed', 'credentials.update', { ...one, privateKeyPolicy: 'sign-only' })
    })
    expect(told.map(({ action, credentialId, outcome }) => [action, credentialId, outcome])).toEqual([
      ['api_key_replaced', 2, 'error'],
      ['api_key_rotated', 2, 'error'],
      ['api_key_updated', 2, 'error'],
    ])
    expect(await story.ok('credentials.get', one)).toMatchObject({ address, privateKeyPolicy: 'exportable' })
    await story.ok('credentials.update', { ...one, name: 'broken' })
    // Everything given anew: nothing of the old is needed, and the credential is whole again.
    await story.ok('credentials.replace', { ...one, ...secrets, passphrase: 'q', privateKey })
    expect(await story.ok('credentials.retrieve', one)).toMatchObject({
      ...secrets,
      passphrase: 'q',
      name: 'broken',
    })
    await story.ok('credentials.revoke', { ...one, credentialId: 4 })
    await story.refused('CredentialRevoked', 'credentials.retrieve', { ...one, credentialId: 4 })
  })

  test('a rotation of all does the others, names each that failed in the audit log, and fails', async () => {
    await using story = await damaged()
    const before = (await story.ok('credentials.list')).credentials
    const told = await story.audited(async () => {
      const error = await story.refused('DecryptionFailed', 'credentials.rotate', { userId: 'alice' })
      expect(error.data.credentialId).toBe(2)
    })
    expect(told.map(({ action, credentialId, outcome }) => [action, credentialId, outcome])).toEqual([
      ['api_key_rotated', 1, 'ok'],
      ['api_key_rotated', 2, 'error'],
      ['api_key_rotated', 3, 'ok'],
      ['api_key_rotated', 4, 'error'],
    ])
    const after = (await story.ok('credentials.list')).credentials
    for (const index of [0, 1, 2, 3]) {
      const fresh = after[index].encryptedAt > before[index].encryptedAt
      expect(fresh).toBe(index % 2 === 0)
    }
  })

  test('each retrieve that waits for the same opening has an entry of its own', async () => {
    await using story = await damaged()
    const told = await story.audited(async () => {
      const params = { userId: 'alice', credentialId: 2 }
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => story.main.call('credentials.retrieve', params)),
      )
      for (const { error } of answers) expect(error!.data.type).toBe('DecryptionFailed')
    })
    expect(told).toHaveLength(8)
    for (const entry of told) expect(entry).toMatchObject({ credentialId: 2, outcome: 'error' })
  })

  test('as the primary: the entry names the credential that was meant', async () => {
    await using story = await damaged()
    await story.ok('credentials.update', { userId: 'alice', credentialId: 2, isPrimary: true })
    const told = await story.audited(() =>
      story.refused('DecryptionFailed', 'credentials.retrieve', { userId: 'alice' }),
    )
    expect(told).toMatchObject([{ credentialId: 2, outcome: 'error' }])
  })
})
