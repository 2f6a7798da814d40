import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { StartPurserError, startPurser, type TestPurser } from '../../src/testing/index.ts'
import { problemsOf } from '../support/faults/ledger-check.ts'
import { ActJournal } from '../support/faults/ledger-load.ts'
import { MixedTurn, prepare, reserve, told, turnSize } from '../support/faults/mixed-turn.ts'
import { storeLauncher } from '../support/faults/power-cuts.ts'
import { RawClient } from '../support/raw-client.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(realpathSync(tmpdir()), 'purser-immutable-'))
  mkdirSync(join(directory, 'data'), { mode: 0o700 })
})
afterEach(() => {
  chattr('-i', ...['purser.db', 'purser.db-wal'].map((name) => join(directory, 'data', name)))
  rmSync(directory, { recursive: true })
})

/** Makes files immutable (`+i`) or lets them be changed again; answers whether it could. */
function chattr(how: '+i' | '-i', ...paths: string[]): boolean {
  try {
    execFileSync('chattr', [how, ...paths], { stdio: 'pipe' })
    return true
  } catch {
    return false
  }
}

const cannot = 'files cannot be made immutable here: that takes root and a file system such as ext4'

function start(pragmas = ''): Promise<TestPurser> {
  const dataDirectory = join(directory, 'data')
  return startPurser({
    fastKdf: true,
    dataDirectory,
    launcher: storeLauncher,
    env: { STORE_PRAGMAS: pragmas },
  })
}

async function expectSound(purser: TestPurser, journal: ActJournal): Promise<void> {
  const client = new RawClient(purser.socketPath)
  expect((await client.call('audit.verify', {})).result).toMatchObject({ ok: true, macChecked: true })
  await purser.kill('SIGKILL')
  cpSync(purser.dataDirectory, join(directory, 'copy'), { recursive: true })
  const claims = journal.acts.map((act) => ({ act, accepted: act.accepted }))
  expect(problemsOf(join(directory, 'copy', 'purser.db'), purser.masterKey!, claims)).toEqual([])
  expect(journal.contradictions).toEqual([])
}

test('a store that becomes immutable is StorageUnavailable, and usable again without a restart', async ({
  skip,
}) => {
  await using purser = await start()
  const database = join(purser.dataDirectory, 'purser.db')
  const journal = new ActJournal()
  const client = new RawClient(purser.socketPath)
  const holds = await prepare(client, journal)
  if (!chattr('+i', database, `${database}-wal`)) {
    console.log(cannot)
    return skip(cannot)
  }
  const turn = new MixedTurn(journal, holds)
  expect(told(await turn.send(client, journal))).toEqual(Array(turnSize).fill('StorageUnavailable'))
  expect((await client.call('spend.status', { userId: 'alice' })).result).toMatchObject({ userId: 'alice' })
  chattr('-i', database, `${database}-wal`)
  expect(told(await turn.send(client, journal))).toEqual(Array(turnSize).fill('ok'))
  await expectSound(purser, journal)
})

test('what is committed while only the database is immutable stays in the WAL, and reaches it later', async ({
  skip,
}) => {
  await using purser = await start('PRAGMA wal_autocheckpoint = 10')
  const database = join(purser.dataDirectory, 'purser.db')
  const journal = new ActJournal()
  const client = new RawClient(purser.socketPath)
  const holds = await prepare(client, journal)
  if (!chattr('+i', database)) {
    console.log(cannot)
    return skip(cannot)
  }
  const before = statSync(`${database}-wal`).size
  expect(told(await new MixedTurn(journal, holds).send(client, journal))).toEqual(Array(turnSize).fill('ok'))
  for (let count = 0; count < 20; count++) await journal.send(reserve(journal), client)
  expect(statSync(`${database}-wal`).size).toBeGreaterThan(before)
  chattr('-i', database)
  const { size } = statSync(database)
  for (let count = 0; count < 20; count++) await journal.send(reserve(journal), client)
  expect(statSync(database).size).toBeGreaterThan(size)
  await expectSound(purser, journal)
})

test('a start on an immutable store says so and changes nothing', async ({ skip }) => {
  await using purser = await start()
  const database = join(purser.dataDirectory, 'purser.db')
  const journal = new ActJournal()
  await prepare(new RawClient(purser.socketPath), journal)
  await purser.kill('SIGKILL')
  for (const file of [database, `${database}-wal`]) {
    if (!chattr('+i', file)) {
      console.log(cannot)
      return skip(cannot)
    }
    const refused = await purser.restart().then(
      () => null,
      (error: unknown) => error,
    )
    expect(refused).toBeInstanceOf(StartPurserError)
    const { exitCode, logs } = refused as StartPurserError
    expect(exitCode).toBe(69)
    expect(logs.at(-1)).toMatch(/^purserd: cannot .*purser\.db.*; check the /)
    chattr('-i', file)
  }
  await purser.restart()
  await expectSound(purser, journal)
})
