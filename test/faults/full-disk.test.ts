import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { TestPurser } from '../../src/testing/index.ts'
import { StartPurserError, startPurser } from '../../src/testing/index.ts'
import { problemsOf } from '../support/faults/ledger-check.ts'
import { ActJournal, addUsers, Load } from '../support/faults/ledger-load.ts'
import { holdsFor, MixedTurn, prepare, told, turnSize } from '../support/faults/mixed-turn.ts'
import { storeLauncher } from '../support/faults/power-cuts.ts'
import { Random, seedOfRun } from '../support/faults/random.ts'
import { SmallDisk } from '../support/faults/small-disk.ts'
import { RawClient } from '../support/raw-client.ts'

let disk: SmallDisk | string
beforeEach(() => {
  disk = SmallDisk.mount(16)
  if (typeof disk === 'string') console.log(`full disks are not tested here: ${disk}`)
})
afterEach(() => {
  if (typeof disk !== 'string') disk.unmount()
})

function start(disk: SmallDisk, pragmas = ''): Promise<TestPurser> {
  const dataDirectory = join(disk.directory, 'data')
  mkdirSync(dataDirectory, { mode: 0o700 })
  return startPurser({
    fastKdf: true,
    dataDirectory,
    config: { store: { reserve_mb: 0 } },
    launcher: storeLauncher,
    env: { STORE_PRAGMAS: pragmas },
  })
}

/** The audit log verifies; the store, after a kill, has every act once. */
async function expectSound(purser: TestPurser, journal: ActJournal): Promise<void> {
  const client = new RawClient(purser.socketPath)
  expect((await client.call('audit.verify', {})).result).toMatchObject({ ok: true, macChecked: true })
  await purser.kill('SIGKILL')
  const copy = mkdtempSync(join(tmpdir(), 'purser-full-'))
  try {
    cpSync(purser.dataDirectory, copy, { recursive: true })
    const claims = journal.acts.map((act) => ({ act, accepted: act.accepted }))
    expect(problemsOf(join(copy, 'purser.db'), purser.masterKey!, claims)).toEqual([])
    expect(journal.contradictions).toEqual([])
  } finally {
    rmSync(copy, { recursive: true })
  }
}

test('a turn that finds the disk full half way is undone whole, and done once there is room', async ({
  skip,
}) => {
  if (typeof disk === 'string') return skip(disk)
  // A checkpoint would give commits the room of those before it.
  await using purser = await start(disk, 'PRAGMA wal_autocheckpoint = 0')
  const journal = new ActJournal()
  const client = new RawClient(purser.socketPath)
  const holds = await prepare(client, journal)
  // From no room at all to room for some pages of the turn.
  for (const left of [0, 4096, 20_480, 40_960]) {
    disk.leave(left)
    const turn = new MixedTurn(journal, holds)
    for (let tries = 0; tries < 2; tries++)
      expect(told(await turn.send(client, journal))).toEqual(Array(turnSize).fill('StorageUnavailable'))
    disk.empty()
    expect(told(await turn.send(client, journal))).toEqual(Array(turnSize).fill('ok'))
    holds.push(...(await holdsFor(client, journal)))
  }
  await expectSound(purser, journal)
})

test('64 clients on a disk that fills up and is emptied again, without a restart', async ({ skip }) => {
  if (typeof disk === 'string') return skip(disk)
  const seed = seedOfRun()
  console.log(`PURSER_TEST_SEED=${seed}`)
  const random = new Random(seed)
  await using purser = await start(disk)
  const journal = new ActJournal()
  const client = new RawClient(purser.socketPath)
  for (let round = 0; round < 3; round++) {
    const users = await addUsers(client, `full-${round}`)
    disk.leave(random.int(0, 300_000))
    const load = new Load(purser.socketPath, journal, users, random)
    await until(() => journal.acts.some((act) => act.uncertain))
    disk.empty()
    const done = journal.accepted.length
    await until(() => journal.accepted.length > done + 50)
    await load.stop()
    for (const act of journal.open) await journal.send(act, client)
    expect(journal.open).toEqual([])
  }
  await expectSound(purser, journal)
})

async function until(is: () => boolean): Promise<void> {
  for (let tries = 0; !is(); tries++) {
    expect(tries).toBeLessThan(1000)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

test('a start on a full disk says so and changes nothing', async ({ skip }) => {
  if (typeof disk === 'string') return skip(disk)
  await using purser = await start(disk)
  const journal = new ActJournal()
  await prepare(new RawClient(purser.socketPath), journal)
  await purser.kill('SIGKILL')
  disk.leave(0)
  const refused = await purser.restart().then(
    () => null,
    (error: unknown) => error,
  )
  expect(refused).toBeInstanceOf(StartPurserError)
  const { exitCode, logs } = refused as StartPurserError
  expect(exitCode).toBe(69)
  expect(logs.at(-1)).toMatch(/^purserd: .*(cannot be written|no space left).*; .*free/)
  disk.empty()
  await purser.restart()
  await expectSound(purser, journal)
})
