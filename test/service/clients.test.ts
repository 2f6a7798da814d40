import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { ClientDirectory } from '../../src/access/directory.ts'
import { type AddClientParams, ClientService, entryOf } from '../../src/service/clients.ts'
import type { Grant, Scope } from '../../src/service/grant.ts'
import { intersection, isNarrowed } from '../../src/service/grant.ts'
import { perform } from '../../src/store/operations.ts'
import { until } from '../flows/story.ts'
import { type EngineKind, TestStore } from '../store/support.ts'
import { actOf } from '../support/acts.ts'

/** The service on a real store that can be made to fail, with the directory it changes. */
class Fixture implements Disposable {
  readonly store: TestStore
  readonly directory = new ClientDirectory({ uid: 65_534, gid: 65_534 }, Date.now)
  readonly clients: ClientService
  diskLow = false

  constructor(kind: EngineKind) {
    this.store = new TestStore(kind)
    this.clients = new ClientService({
      commits: this.store.commits,
      book: this.directory,
      diskLow: () => this.diskLow,
      now: Date.now,
    })
  }

  async add(params: Partial<AddClientParams> = {}): Promise<number> {
    const what: AddClientParams = { name: 'bot', uid: 2000, users: ['alice'], scopes: ['spend'], ...params }
    return (await this.clients.add(actOf(), what)).clientId
  }

  scopesOf(clientId: number): string[] | null {
    const entry = this.directory.get(clientId)
    return entry === undefined ? null : [...entry.grant.scopes]
  }

  /** What stands in the store. */
  async stored(clientId: number): Promise<string[] | null> {
    const row = await this.store.commits.submit(() => perform('clientGet', clientId))
    return row === undefined ? null : [...entryOf(row).grant.scopes]
  }

  /** No commit reaches the disk while `during` runs. */
  async failing<T>(during: () => Promise<T>): Promise<T> {
    this.store.engine.before = (step) => {
      if (step === 'commit') throw new Database.SqliteError('full', 'SQLITE_FULL')
    }
    try {
      return await during()
    } finally {
      this.store.engine.before = () => undefined
    }
  }

  [Symbol.dispose](): void {
    this.store[Symbol.dispose]()
  }
}

const unwritten = (act: Promise<unknown>) => expect(act).rejects.toMatchObject({ type: 'StorageUnavailable' })

describe.each<EngineKind>(['direct', 'awaited'])('on a store that answers %s', (kind) => {
  test('a removal that cannot be written binds all the same, and stays in the store', async () => {
    using fixture = new Fixture(kind)
    const clientId = await fixture.add()
    const removal = actOf()
    await unwritten(fixture.failing(() => fixture.clients.remove(removal, clientId)))
    expect(removal.bindings).toMatchObject([{ on: { clientId }, grants: true, error: { type: 'Forbidden' } }])
    expect(fixture.scopesOf(clientId)).toBeNull()
    expect(await fixture.stored(clientId)).toEqual(['spend'])
    // It is removed for whoever looks or changes, and can be removed for good.
    expect(await fixture.clients.list(actOf(), { limit: 9 })).toEqual({ clients: [], nextCursor: null })
    await expect(fixture.clients.update(actOf(), { clientId, users: '*' })).rejects.toMatchObject({
      type: 'NotFound',
    })
    await fixture.clients.remove(actOf(), clientId)
    expect(await fixture.stored(clientId)).toBeNull()
  })

  test('so does one whose commit does not even begin', async () => {
    using fixture = new Fixture(kind)
    const clientId = await fixture.add()
    fixture.store.engine.before = (step) => {
      if (step === 'begin') throw new Database.SqliteError('io', 'SQLITE_IOERR')
    }
    await unwritten(fixture.clients.remove(actOf(), clientId))
    expect(fixture.scopesOf(clientId)).toBeNull()
  })

  test('an update that cannot be written is taken back, both ways', async () => {
    using fixture = new Fixture(kind)
    const clientId = await fixture.add({ scopes: ['spend', 'sign'] })
    await unwritten(
      fixture.failing(() => fixture.clients.update(actOf(), { clientId, scopes: ['spend', 'freeze'] })),
    )
    // While the store cannot be read either, what both allow is left; then what it says.
    expect(fixture.scopesOf(clientId)).toEqual(['spend'])
    await until(() => String(fixture.scopesOf(clientId)) === 'spend,sign')
    fixture.store.engine.before = (step, operation) => {
      if (step === 'auditInsert' && operation !== undefined)
        throw new Database.SqliteError('full', 'SQLITE_FULL')
    }
    await unwritten(fixture.clients.update(actOf(), { clientId, scopes: ['freeze'] }))
    await until(() => String(fixture.scopesOf(clientId)) === 'spend,sign')
    fixture.store.engine.before = () => undefined
    expect(await fixture.stored(clientId)).toEqual(['spend', 'sign'])
  })

  test('an entry that cannot be written is none', async () => {
    using fixture = new Fixture(kind)
    await unwritten(fixture.failing(() => fixture.add()))
    expect(fixture.directory.size).toBe(0)
    const clientId = await fixture.add()
    expect(fixture.scopesOf(clientId)).toEqual(['spend'])
  })

  test('whatever shares a commit, memory and store say the same behind it', async () => {
    using fixture = new Fixture(kind)
    const clientId = await fixture.add()
    const next = clientId + 1
    const settled = await Promise.allSettled([
      fixture.clients.update(actOf(), { clientId, scopes: ['sign'] }),
      fixture.clients.update(actOf(), { clientId, scopes: ['sign', 'spend'] }),
      fixture.add({ name: 'second', uid: 2001 }),
      // Who guesses its id.
      fixture.clients.update(actOf(), { clientId: next, scopes: ['settle'] }),
      fixture.clients.remove(actOf(), next),
      fixture.add({ name: 'third', uid: 2002 }),
      fixture.clients.update(actOf(), { clientId, scopes: ['freeze', 'sign'] }),
    ])
    expect(settled.filter(({ status }) => status === 'rejected')).toEqual([])
    expect(fixture.scopesOf(clientId)).toEqual(['freeze', 'sign'])
    expect(await fixture.stored(clientId)).toEqual(['freeze', 'sign'])
    expect([fixture.scopesOf(next), await fixture.stored(next)]).toEqual([null, null])
    expect(fixture.directory.size).toBe(2)
  })

  test('in the commit that removes it, what comes behind finds it gone', async () => {
    using fixture = new Fixture(kind)
    const clientId = await fixture.add()
    const seen: (string[] | null)[] = []
    const look = () => {
      seen.push(fixture.scopesOf(clientId))
    }
    const { commits } = fixture.store
    const place = (check: () => void) => ({ order: 0, check })
    await Promise.all([
      commits.submit(() => perform('auditHead'), place(look)),
      fixture.clients.update(actOf(), { clientId, scopes: ['sign'] }),
      commits.submit(() => perform('auditHead'), place(look)),
      fixture.clients.remove(actOf(), clientId),
      commits.submit(() => perform('auditHead'), place(look)),
    ])
    expect(seen).toEqual([['spend'], [], null])
  })

  test('below the reserve what narrows works, and what widens does not', async () => {
    using fixture = new Fixture(kind)
    const clientId = await fixture.add({ scopes: ['spend', 'sign'], users: '*' })
    fixture.diskLow = true
    await fixture.clients.update(actOf(), { clientId, scopes: ['spend'] })
    await fixture.clients.update(actOf(), { clientId, users: ['alice', 'bob'], credentials: [1, 2] })
    await fixture.clients.update(actOf(), { clientId, users: ['alice'], expiresAt: Date.now() + 60_000 })
    for (const wider of [
      { scopes: ['spend', 'sign'] as const },
      { scopes: ['sign'] as const },
      { users: ['alice', 'carol'] },
      { users: '*' as const },
      { credentials: null },
      { credentials: [1, 3] },
      { expiresAt: null },
    ])
      await unwritten(fixture.clients.update(actOf(), { clientId, ...wider }))
    expect(fixture.scopesOf(clientId)).toEqual(['spend'])
    await fixture.clients.remove(actOf(), clientId)
  })
})

describe('a grant and another', () => {
  const grant = (what: Partial<Grant> = {}): Grant => ({
    users: new Set(['a', 'b']),
    credentials: null,
    scopes: new Set<Scope>(['spend', 'sign']),
    expiresAtMs: 100,
    ...what,
  })

  test.each<[what: string, after: Partial<Grant>, narrowed: boolean, widened: boolean]>([
    ['the same', {}, false, false],
    ['a scope less', { scopes: new Set<Scope>(['spend']) }, true, false],
    ['another scope', { scopes: new Set<Scope>(['spend', 'freeze']) }, true, true],
    ['admin', { scopes: new Set<Scope>(['admin']), users: '*' }, false, true],
    ['a user less', { users: new Set(['a']) }, true, false],
    ['all users', { users: '*' }, false, true],
    ['listed credentials', { credentials: new Set([1]) }, true, false],
    ['an earlier end', { expiresAtMs: 99 }, true, false],
    ['a later end', { expiresAtMs: 101 }, false, true],
    ['no end', { expiresAtMs: null }, false, true],
  ])('%s', (_what, change, narrowed, widened) => {
    const [before, after] = [grant(), grant(change)]
    expect([isNarrowed(before, after), isNarrowed(after, before)]).toEqual([narrowed, widened])
    const both = intersection(before, after)
    for (const one of [before, after]) expect(isNarrowed(both, one)).toBe(false)
  })
})

test('a token is wiped once its answer is out', async () => {
  using fixture = new Fixture('direct')
  const adding = actOf()
  const { token } = await fixture.clients.add(adding, {
    name: 'bot',
    token: true,
    users: '*',
    scopes: ['spend'],
  })
  expect(token!.bytes.toString()).toMatch(/^prs_[\w-]{43}$/)
  for (const cleanup of adding.cleanups) cleanup()
  expect(token!.bytes.every((byte) => byte === 0)).toBe(true)
})
