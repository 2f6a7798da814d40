import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { startPurser } from '../../src/testing/index.ts'
import { DiskShim } from '../support/faults/disk-shim.ts'
import { ActJournal } from '../support/faults/ledger-load.ts'
import { prepare, reserve, told } from '../support/faults/mixed-turn.ts'
import { storeLauncher } from '../support/faults/power-cuts.ts'
import { type Answer, RawClient } from '../support/raw-client.ts'

let shim: DiskShim | string
beforeAll(() => {
  shim = DiskShim.build()
  if (typeof shim === 'string') console.log(`failing disks are not tested here: ${shim}`)
})
afterAll(() => {
  if (typeof shim !== 'string') shim.remove()
})

const freezes = [
  {
    freeze: 'users.freeze',
    params: { userId: 'alice', reason: 'stolen' },
    unfreeze: 'users.unfreeze',
    whom: { userId: 'alice' },
  },
  { freeze: 'system.freeze', params: { reason: 'stolen' }, unfreeze: 'system.unfreeze', whom: {} },
]

describe.each(freezes)('$freeze', ({ freeze, params, unfreeze, whom }) => {
  test('binds at its answer where it cannot be written, until it is lifted', async ({ skip }) => {
    if (typeof shim === 'string') return skip(shim)
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'purser-freeze-'))
    try {
      const dataDirectory = join(directory, 'data')
      mkdirSync(dataDirectory, { mode: 0o700 })
      const { env, control } = shim.around(dataDirectory)
      await using purser = await startPurser({ fastKdf: true, dataDirectory, env })
      const journal = new ActJournal()
      const client = new RawClient(purser.socketPath)
      const [reservationId] = await prepare(client, journal)
      const granted = reserve(journal)
      await journal.send(granted, client)
      const refused = (act = reserve(journal)) => client.call(act.method, act.params)

      control.set('write', { error: 'ENOSPC' })
      expect(told([await client.call(freeze, params)])).toEqual(['StorageUnavailable'])
      // Nothing is granted any more, least of all what needs no entry in the audit log.
      const check = () => client.call('spend.check', { userId: 'alice', amountUsd: '1' })
      expect((await check()).error).toMatchObject({ code: 1005, data: { type: 'Frozen', reason: 'stolen' } })
      // A refusal is audited, and that cannot be written either.
      expect(told([await refused(), await refused(granted)])).toEqual(Array(2).fill('StorageUnavailable'))
      expect((await client.call('spend.status', { userId: 'alice' })).result).toMatchObject({
        frozen: { reason: 'stolen' },
      })
      const users = async () => [
        (await client.call('users.get', { userId: 'alice' })).result,
        ((await client.call('users.list', {})).result as { users: object[] }).users[0],
      ]
      const shown = { frozen: freeze === 'users.freeze' ? { reason: 'stolen' } : null }
      expect(await users()).toMatchObject([shown, shown])
      // Nor can it be lifted by what is not written.
      expect(told([await client.call(unfreeze, whom)])).toEqual(['StorageUnavailable'])
      expect(told([await check()])).toEqual(['Frozen'])

      control.set('write', null)
      expect(told([await check(), await refused(), await refused(granted)])).toEqual(Array(3).fill('Frozen'))
      expect(told([await client.call('credentials.retrieve', { userId: 'alice' })])).toEqual(['Frozen'])
      // Money that has moved is still counted.
      const capture = { reservationId, amountUsd: '0.5', tradeId: 'moved' }
      expect(told([await client.call('spend.capture', capture)])).toEqual(['ok'])
      expect(told([await client.call(unfreeze, whom)])).toEqual(['ok'])
      expect(told([await check(), await journal.send(granted, client), await refused()])).toEqual(
        Array(3).fill('ok'),
      )
      expect((await client.call('audit.verify', {})).result).toMatchObject({ ok: true, macChecked: true })
      control.close()
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  test('is written when the disk has room again, and outlives the daemon', async ({ skip }) => {
    if (typeof shim === 'string') return skip(shim)
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'purser-freeze-'))
    try {
      const dataDirectory = join(directory, 'data')
      mkdirSync(dataDirectory, { mode: 0o700 })
      const { env, control } = shim.around(dataDirectory)
      await using purser = await startPurser({ fastKdf: true, dataDirectory, env })
      let client = new RawClient(purser.socketPath)
      await prepare(client, new ActJournal())
      control.set('write', { error: 'ENOSPC' })
      expect(told([await client.call(freeze, params)])).toEqual(['StorageUnavailable'])
      control.set('write', null)
      const health = async () => (await client.call('system.health', {})).result
      await vi.waitFor(async () => expect(await health()).toMatchObject({ checks: { store: 'ok' } }), 15_000)
      await purser.kill()
      await purser.restart()
      client = new RawClient(purser.socketPath)
      const check = await client.call('spend.check', { userId: 'alice', amountUsd: '1' })
      expect(check.error).toMatchObject({ data: { type: 'Frozen', reason: 'stolen' } })
      const action = freeze === 'users.freeze' ? 'user_frozen' : 'system_frozen'
      expect((await client.call('audit.query', { action })).result).toMatchObject({
        entries: [
          { outcome: 'ok', details: { reason: 'stolen', late: true }, peer: { uid: process.getuid!() } },
        ],
      })
      expect((await client.call('audit.verify', {})).result).toMatchObject({ ok: true, macChecked: true })
      control.close()
    } finally {
      rmSync(directory, { recursive: true })
    }
  })

  // A page that is damaged fails one request of a turn, and the others are carried out.
  for (const failing of [`auditInsert ${freeze === 'users.freeze' ? 'user_frozen' : 'system_frozen'}`]) {
    test('binds from its place in the turn on, where it alone cannot be written', async () => {
      await using purser = await startPurser({
        fastKdf: true,
        launcher: storeLauncher,
        env: { STORE_FAULT: failing },
      })
      const journal = new ActJournal()
      const client = new RawClient(purser.socketPath)
      await prepare(client, journal)
      client.socket.cork()
      const answers: Promise<Answer>[] = []
      for (let index = 0; index < 20; index++) answers.push(journal.send(reserve(journal), client))
      answers.push(client.call(freeze, params))
      for (let index = 0; index < 20; index++) answers.push(journal.send(reserve(journal), client))
      answers.push(client.call('credentials.retrieve', { userId: 'alice' }))
      client.socket.uncork()
      expect(told(await Promise.all(answers))).toEqual([
        ...Array(20).fill('ok'),
        'StorageUnavailable',
        ...Array(21).fill('Frozen'),
      ])
      expect((await client.call('audit.verify', {})).result).toMatchObject({ ok: true, macChecked: true })
    })
  }
})
