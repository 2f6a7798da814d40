import { randomBytes } from 'node:crypto'
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest'
import type { TestPurser } from '../../src/testing/index.ts'
import { startPurser } from '../../src/testing/index.ts'
import { DiskShim, type Fault, type FaultControl } from '../support/faults/disk-shim.ts'
import { problemsOf } from '../support/faults/ledger-check.ts'
import { ActJournal } from '../support/faults/ledger-load.ts'
import {
  type Holds,
  holdsFor,
  MixedTurn,
  prepare,
  reserve,
  told,
  turnSize,
} from '../support/faults/mixed-turn.ts'
import { storeLauncher } from '../support/faults/power-cuts.ts'
import { RawClient } from '../support/raw-client.ts'

let shim: DiskShim | string
beforeAll(() => {
  shim = DiskShim.build()
  if (typeof shim === 'string') console.log(`failing disks are not tested here: ${shim}`)
})
afterAll(() => {
  if (typeof shim !== 'string') shim.remove()
})

type Kind = Parameters<FaultControl['set']>[0]

/** A cache so small that SQLite reads and writes pages in the middle of a transaction. */
const smallCache = 'PRAGMA cache_size = 10; PRAGMA cache_spill = 1'

const faults: readonly { name: string; kind: Kind; fault: Fault; pragmas?: string }[] = [
  { name: 'the sync of a commit fails', kind: 'sync', fault: { error: 'EIO', file: 'wal' } },
  { name: 'no write works', kind: 'write', fault: { error: 'EIO' } },
  { name: 'the disk is full', kind: 'write', fault: { error: 'ENOSPC' } },
  {
    name: 'the disk is full in the middle of a commit',
    kind: 'write',
    fault: { error: 'ENOSPC', skip: 9, torn: true },
  },
  {
    name: 'the disk is full in the middle of a turn',
    kind: 'write',
    fault: { error: 'ENOSPC', skip: 5, torn: true },
    pragmas: smallCache,
  },
  {
    name: 'a write fails in the middle of a turn',
    kind: 'write',
    fault: { error: 'EIO', skip: 5 },
    pragmas: smallCache,
  },
  {
    name: 'a read fails in the middle of a turn',
    kind: 'read',
    fault: { error: 'EIO', skip: 10 },
    pragmas: smallCache,
  },
]

describe.each(faults)('where $name', ({ kind, fault, pragmas = '' }) => {
  test('all 64 requests of the turn get StorageUnavailable, and each is done once when it is asked for again', async (context) => {
    await using failing = await FailingDisk.start(context, pragmas)
    const { client, control, journal, holds, purser } = failing
    const turn = new MixedTurn(journal, holds)
    const before = await failing.state()
    control.set(kind, fault)
    const answers = await turn.send(client, journal)
    expect(control.fired(kind)).toBeGreaterThan(0)
    expect(told(answers)).toEqual(Array(turnSize).fill('StorageUnavailable'))
    const { code, message, data } = answers[0]!.error!
    expect({ code, message, ...data }).toEqual({
      code: 5001,
      type: 'StorageUnavailable',
      retryable: true,
      message: 'the store cannot be written',
      hint: expect.stringContaining('repeat with the same id'),
    })
    control.set(kind, null)
    // Nothing of it is to be seen, without a restart.
    expect(await failing.state()).toEqual(before)
    expect(told(await turn.send(client, journal))).toEqual(Array(turnSize).fill('ok'))
    expect(told(await turn.send(client, journal))).toEqual(Array(turnSize).fill('ok'))
    // The same with a kill in the place of the recovery: each act is whole or undone then.
    const killed = new MixedTurn(journal, holds)
    control.set(kind, fault)
    expect(told(await killed.send(client, journal))).toEqual(Array(turnSize).fill('StorageUnavailable'))
    await purser.kill('SIGKILL')
    control.set(kind, null)
    failing.expectWhole()
    await purser.restart()
    failing.client = new RawClient(purser.socketPath)
    expect(told(await killed.send(failing.client, journal))).toEqual(Array(turnSize).fill('ok'))
    await failing.expectSound()
  })
})

test('what was committed before the disk fails is answered from memory and refused what it cannot write', async (context) => {
  await using failing = await FailingDisk.start(context, '')
  const { client, control, journal } = failing
  const act = reserve(journal)
  await journal.send(act, client)
  control.set('sync', { error: 'EIO' })
  // A retry writes nothing, so it is answered while nothing else is.
  expect(told([await journal.send(act, client)])).toEqual(['ok'])
  expect(told([await journal.send(reserve(journal), client)])).toEqual(['StorageUnavailable'])
  expect((await client.call('spend.check', { userId: 'alice', amountUsd: '1' })).result).toMatchObject({
    allowed: true,
  })
  expect((await client.call('credentials.list', { userId: 'alice' })).result.credentials).toHaveLength(1)
  expect((await client.call('system.health')).result).toMatchObject({
    status: 'degraded',
    checks: { store: 'the last write failed' },
  })
  expect(told([await client.call('credentials.retrieve', { userId: 'alice' })])).toEqual([
    'StorageUnavailable',
  ])
  control.set('sync', null)
  expect(told([await client.call('credentials.retrieve', { userId: 'alice' })])).toEqual(['ok'])
  await failing.expectHealthy()
  await failing.expectSound()
})

test('checkpoints that fail show once the WAL is longer than it ever gets, and no more once they work', async (context) => {
  await using failing = await FailingDisk.start(context, '')
  const { client, control, purser } = failing
  const health = async () => (await client.call('system.health')).result
  const walBytes = () => statSync(join(purser.dataDirectory, 'purser.db-wal')).size
  // Names all over the tree, so that a commit touches many pages.
  const grow = async (users = 200) => {
    const email = 'x'.repeat(250)
    const names = Array.from({ length: users }, () => randomBytes(60).toString('hex'))
    const answers = await Promise.all(names.map((userId) => client.call('users.put', { userId, email })))
    expect(told(answers)).toEqual(Array(users).fill('ok'))
  }
  expect(await health()).toMatchObject({ status: 'ok', checks: { checkpoint: 'ok' } })
  control.set('write', { error: 'EIO', file: 'database' })
  while (walBytes() < 30 * 1024 * 1024) await grow()
  expect(control.fired('write')).toBeGreaterThan(0)
  expect(await health()).toMatchObject({ status: 'ok', checks: { checkpoint: 'ok' } })
  while (walBytes() <= 32 * 1024 * 1024) await grow()
  expect(await health()).toMatchObject({
    status: 'degraded',
    checks: { store: 'ok', checkpoint: 'the WAL cannot be checkpointed' },
  })
  control.set('write', null)
  await grow()
  expect(await health()).toMatchObject({ status: 'ok', checks: { checkpoint: 'ok' } })
  await failing.expectSound()
})

test('a disk that fails every now and then loses nothing', async (context) => {
  await using failing = await FailingDisk.start(context, 'PRAGMA wal_autocheckpoint = 20')
  const { client, control, journal } = failing
  for (const [index, error] of (['EIO', 'ENOSPC', 'EIO', 'ENOSPC'] as const).entries()) {
    const turn = new MixedTurn(journal, await holdsFor(client, journal))
    control.set('sync', { error: 'EIO', skip: index, times: 2 })
    control.set('write', { error, skip: 10 * index, times: 1, torn: true })
    for (let tries = 0; tries < 10; tries++) {
      const answers = told(await turn.send(client, journal))
      if (answers.every((answer) => answer === 'ok')) break
      expect(tries).toBeLessThan(9)
    }
    // What has not struck yet is not for the holds of the next round.
    control.set('sync', null)
    control.set('write', null)
  }
  await failing.expectSound()
})

test('a store that fails all the time does not flood the log', async (context) => {
  await using failing = await FailingDisk.start(context, '')
  const { client, control, journal, purser } = failing
  control.set('sync', { error: 'EIO' })
  const startedMs = performance.now()
  for (let count = 0; count < 200; count++) await journal.send(reserve(journal), client)
  const seconds = (performance.now() - startedMs) / 1000
  expect(control.fired('sync')).toBeGreaterThanOrEqual(200)
  const lines = purser.logs().filter((line) => line.includes('"the store failed"'))
  expect(lines[0]).toContain('SQLITE_IOERR_FSYNC')
  expect(lines.length).toBeGreaterThan(0)
  expect(lines.length).toBeLessThan(seconds + 2)
})

/** A daemon behind the disk shim, with something in its ledger. */
class FailingDisk implements AsyncDisposable {
  readonly purser: TestPurser
  readonly control: FaultControl
  readonly journal = new ActJournal()
  client: RawClient
  holds: Holds = []
  readonly #directory: string

  private constructor(directory: string, purser: TestPurser, control: FaultControl) {
    this.#directory = directory
    this.purser = purser
    this.control = control
    this.client = new RawClient(purser.socketPath)
  }

  static async start({ skip }: TestContext, pragmas: string): Promise<FailingDisk> {
    if (typeof shim === 'string') return skip(shim)
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'purser-failing-'))
    const dataDirectory = join(directory, 'data')
    mkdirSync(dataDirectory, { mode: 0o700 })
    const { env, control } = shim.around(dataDirectory)
    const { FAULTS_LOG: _, ...unlogged } = env
    const purser = await startPurser({
      fastKdf: true,
      dataDirectory,
      launcher: storeLauncher,
      env: { ...unlogged, STORE_PRAGMAS: pragmas },
    })
    const failing = new FailingDisk(directory, purser, control)
    failing.holds = await prepare(failing.client, failing.journal)
    return failing
  }

  /** What the ledger says of its user, and where its audit log ends. */
  async state(): Promise<object> {
    const { result: status } = await this.client.call('spend.status', { userId: 'alice' })
    const { result: held } = await this.client.call('reservations.list', { userId: 'alice', limit: 1000 })
    const { result: positions } = await this.client.call('positions.list', { userId: 'alice', limit: 1000 })
    const { result: verified } = await this.client.call('audit.verify', {})
    expect(verified).toMatchObject({ ok: true, macChecked: true })
    return { status, held, positions, verified }
  }

  /** Well again once commits succeed and none has failed for a second. */
  async expectHealthy(): Promise<void> {
    for (let tries = 0; ; tries++) {
      expect(
        told([
          await this.client.call('spend.record', {
            userId: 'alice',
            amountUsd: '0.01',
            idempotencyKey: 'well',
          }),
        ]),
      ).toEqual(['ok'])
      const { result } = await this.client.call('system.health')
      if (result.status === 'ok') return
      expect(tries).toBeLessThan(40)
      await sleep(100)
    }
  }

  /** The daemon vouches for its log; its store, after a kill, has everything once. */
  async expectSound(): Promise<void> {
    expect((await this.client.call('audit.verify', {})).result).toMatchObject({ ok: true, macChecked: true })
    await this.purser.kill('SIGKILL')
    this.expectWhole()
  }

  expectWhole(): void {
    const copy = join(this.#directory, 'copy')
    cpSync(this.purser.dataDirectory, copy, { recursive: true })
    const claims = this.journal.acts.map((act) => ({ act, accepted: act.accepted }))
    const asked = problemsOf(join(copy, 'purser.db'), this.purser.masterKey!, claims)
    expect(asked.filter((problem) => problem !== 'nobody asked for alice spend.record well')).toEqual([])
    expect(this.journal.contradictions).toEqual([])
    rmSync(copy, { recursive: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.purser.stop()
    this.control.close()
    rmSync(this.#directory, { recursive: true })
  }
}
