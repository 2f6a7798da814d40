import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPurser, type TestPurser } from '../../src/testing/index.ts'
import { DiskShim } from '../support/faults/disk-shim.ts'
import { ActJournal } from '../support/faults/ledger-load.ts'
import { prepare, reserve, told } from '../support/faults/mixed-turn.ts'
import { storeLauncher } from '../support/faults/power-cuts.ts'
import { type Answer, RawClient } from '../support/raw-client.ts'

// A seal that cannot be written binds all the same, and the log that goes on without its key begins with why.

let shim: DiskShim | string
let directory: string
beforeAll(() => {
  shim = DiskShim.build()
  if (typeof shim === 'string') console.log(`failing disks are not tested here: ${shim}`)
  directory = mkdtempSync(join(realpathSync(tmpdir()), 'purser-seal-'))
})
afterAll(() => {
  if (typeof shim !== 'string') shim.remove()
  rmSync(directory, { recursive: true })
})

function data(name: string): string {
  const dataDirectory = join(directory, name)
  mkdirSync(dataDirectory, { mode: 0o700 })
  return dataDirectory
}

const retrieve = (client: RawClient) => client.call('credentials.retrieve', { userId: 'alice' })
const check = (client: RawClient) => client.call('spend.check', { userId: 'alice', amountUsd: '1' })
const verified = async (client: RawClient) => (await client.call('audit.verify', {})).result

async function actionsOf(client: RawClient, count: number): Promise<string[]> {
  const { entries } = (await client.call('audit.query', { limit: count })).result
  return entries.map(({ action, outcome }: Record<string, string>) => `${action} ${outcome}`).reverse()
}

async function sealOnFullDisk(): Promise<{ purser: TestPurser; client: RawClient; writable: () => void }> {
  if (typeof shim === 'string') throw new Error(shim)
  const dataDirectory = data(`data-${Math.random()}`)
  const { env, control } = shim.around(dataDirectory)
  const purser = await startPurser({ fastKdf: true, dataDirectory, env })
  const client = new RawClient(purser.socketPath)
  await prepare(client, new ActJournal())
  expect(told([await retrieve(client)])).toEqual(['ok'])
  control.set('write', { error: 'ENOSPC' })
  expect(told([await client.call('system.seal')])).toEqual(['StorageUnavailable'])
  const writable = () => {
    control.set('write', null)
    control.close()
  }
  return { purser, client, writable }
}

test('a full disk: sealed in memory, and unsealed again by the key', async ({ skip }) => {
  if (typeof shim === 'string') return skip(shim)
  const { purser, client, writable } = await sealOnFullDisk()
  try {
    expect((await client.call('system.status')).result).toMatchObject({
      sealed: true,
      sealedAt: null,
      cache: { entries: 0 },
    })
    expect(told([await check(client)])).toEqual(['Sealed'])
    // A refusal is audited, and that cannot be written either.
    expect(told([await retrieve(client), await client.call('system.unseal')])).toEqual(
      Array(2).fill('StorageUnavailable'),
    )
    expect(told([await check(client)])).toEqual(['Sealed'])
    writable()
    expect(told([await retrieve(client)])).toEqual(['Sealed'])
    expect(told([await client.call('system.freeze', { reason: 'x' })])).toEqual(['ok'])
    expect(told([await client.call('system.unseal'), await client.call('system.unfreeze')])).toEqual([
      'ok',
      'ok',
    ])
    expect(told([await retrieve(client)])).toEqual(['ok'])
    expect(await actionsOf(client, 6)).toEqual([
      // Told of as soon as anything could be.
      'system_sealed ok',
      'api_key_retrieved denied',
      'system_frozen ok',
      'system_unsealed ok',
      'system_unfrozen ok',
      'api_key_retrieved ok',
    ])
    expect(await verified(client)).toMatchObject({ ok: true, macChecked: true })
  } finally {
    client.close()
    await purser.stop()
  }
})

test('a full disk: sealed again once it can be written, it outlives a restart; else it does not', async ({
  skip,
}) => {
  if (typeof shim === 'string') return skip(shim)
  for (const again of [true, false]) {
    const { purser, client, writable } = await sealOnFullDisk()
    try {
      writable()
      if (again) expect(told([await client.call('system.seal')])).toEqual(['ok'])
      client.close()
      await purser.restart()
      expect(purser.ready).toMatchObject({ sealed: again })
      await purser.rpc('system.unseal', {})
      expect(await purser.rpc('audit.verify')).toMatchObject({ ok: true, macChecked: true })
    } finally {
      await purser.stop()
    }
  }
})

test('binds from its place in the turn on, where it alone cannot be written', async () => {
  await using purser = await startPurser({
    fastKdf: true,
    launcher: storeLauncher,
    env: { STORE_FAULT: 'auditInsert system_sealed' },
  })
  const journal = new ActJournal()
  const client = new RawClient(purser.socketPath)
  await prepare(client, journal)
  await retrieve(client)
  client.socket.cork()
  const answers: Promise<Answer>[] = []
  for (let index = 0; index < 20; index++) answers.push(retrieve(client))
  answers.push(client.call('system.seal'))
  for (let index = 0; index < 20; index++) answers.push(check(client))
  client.socket.uncork()
  expect(told(await Promise.all(answers))).toEqual([
    ...Array(20).fill('ok'),
    'StorageUnavailable',
    ...Array(20).fill('Sealed'),
  ])
  // Its entry can never be written here, so nothing is that would have to stand behind it.
  expect(
    told([await client.call('system.freeze', { reason: 'x' }), await retrieve(client), await check(client)]),
  ).toEqual(['StorageUnavailable', 'StorageUnavailable', 'Sealed'])
})

test('an unseal that cannot be written leaves it sealed', async () => {
  const dataDirectory = data('unseal')
  const masterKey = Buffer.alloc(32, 5)
  const options = { fastKdf: true, dataDirectory, masterKey, launcher: storeLauncher }
  await using purser = await startPurser({ ...options, env: { STORE_FAULT: 'auditInsert system_unsealed' } })
  const client = new RawClient(purser.socketPath)
  await prepare(client, new ActJournal())
  expect(told([await client.call('system.seal')])).toEqual(['ok'])
  expect(told([await client.call('system.unseal')])).toEqual(['StorageUnavailable'])
  expect(told([await retrieve(client), await reserve1(client), await check(client)])).toEqual(
    Array(3).fill('Sealed'),
  )
  client.close()
  await purser.restart()
  expect(purser.ready).toMatchObject({ sealed: true })
  await purser.stop()
  await using plain = await startPurser({ ...options, launcher: undefined })
  expect(plain.ready).toMatchObject({ sealed: true })
  await plain.rpc('system.unseal', {})
  expect(await plain.rpc('audit.verify')).toMatchObject({ ok: true, macChecked: true })
})

const reserve1 = (client: RawClient) => {
  const act = reserve(new ActJournal())
  return client.call(act.method, act.params)
}
