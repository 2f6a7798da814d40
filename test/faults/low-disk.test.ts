import { statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { methods } from '../../src/rpc/methods/index.ts'
import { startPurser } from '../../src/testing/index.ts'
import { told } from '../support/faults/mixed-turn.ts'
import { RawClient } from '../support/raw-client.ts'

const user = { userId: 'alice' }

/** What is refused below `store.reserve_mb`: whatever grants, hands out or only adds to the store. */
const refused: Readonly<Record<string, object>> = {
  'backup.create': {},
  'clients.add': { name: 'second', token: true, users: '*', scopes: ['spend'] },
  'credentials.replace': { ...user, credentialId: 1, apiKey: 'other', apiSecret: 'c2VjcmV0' },
  'credentials.retrieve': user,
  'credentials.rotate': user,
  'credentials.store': { ...user, apiKey: 'second', apiSecret: 'c2VjcmV0' },
  'credentials.update': { ...user, credentialId: 1, name: 'new' },
  'master.reseal': {},
  'master.rotate': {},
  'positions.close': { ...user, tradeId: 'recorded' },
  'spend.reserve': { ...user, amountUsd: '1' },
  'system.unfreeze': {},
  'system.unseal': {},
  'users.put': { ...user, tier: 'pro' },
  'users.resetDecryptions': user,
  'users.unfreeze': user,
}

/** What must still work, in this order: money that has moved, taking access away, and looking. */
const works: Readonly<Record<string, object>> = {
  'session.hello': {},
  'system.ping': {},
  'system.health': {},
  'system.status': {},
  'system.metrics': {},
  'rpc.discover': {},
  'spend.check': { ...user, amountUsd: '1' },
  'spend.capture': { reservationId: 'r1', amountUsd: '1', tradeId: 'captured' },
  'spend.void': { reservationId: 'r2' },
  'spend.record': { ...user, amountUsd: '1', tradeId: 'recorded' },
  'spend.status': user,
  'spend.usage': {},
  'reservations.list': user,
  'positions.list': user,
  'users.get': user,
  'users.list': {},
  'credentials.get': { ...user, credentialId: 1 },
  'credentials.list': {},
  'credentials.expiring': { withinDays: 30 },
  'credentials.revoke': { ...user, credentialId: 1 },
  'clients.update': { clientId: 1, scopes: ['spend'] },
  'clients.list': {},
  'clients.remove': { clientId: 1 },
  'users.freeze': { ...user, reason: 'low' },
  'system.freeze': { reason: 'low' },
  'audit.query': {},
  'audit.verify': {},
  'audit.failures': {},
  'master.status': {},
}

test('below store.reserve_mb what takes access away, counts money or only reads works, and nothing else', async () => {
  const names = methods.map(({ name }) => name)
  expect([...Object.keys(refused), ...Object.keys(works), 'system.seal'].sort()).toEqual(names.sort())
  await using purser = await startPurser({ fastKdf: true, config: { store: { reserve_mb: 0 } } })
  let client = new RawClient(purser.socketPath)
  await client.call('credentials.store', { ...user, apiKey: 'first', apiSecret: 'c2VjcmV0' })
  await client.call('clients.add', { name: 'bot', uid: 4000, users: ['alice'], scopes: ['spend', 'freeze'] })
  const held = { ...user, amountUsd: '2', ttlSeconds: 3600, idempotencyKey: 'held' }
  await client.call('spend.reserve', held)
  await client.call('spend.reserve', { ...held, idempotencyKey: 'other' })
  const entries = (await client.call('audit.verify', {})).result.entries as number

  const { bavail, bsize } = statfsSync(purser.directory)
  const reserveMb = Math.ceil((bavail * bsize) / 2 ** 20) + 100_000
  writeFileSync(join(purser.directory, 'purser.toml'), `[store]\nreserve_mb = ${reserveMb}\n`)
  await purser.restart()
  client = new RawClient(purser.socketPath)
  // Narrowing a client takes access away and works; what would widen it does not.
  const widening = { clientId: 1, scopes: ['spend', 'freeze', 'sign'] }
  const asked = [
    ...Object.entries({ ...refused, 'spend.reserve': held }),
    ['clients.update', widening] as const,
  ]
  for (const [method, params] of asked) {
    const { error } = await client.call(method, params)
    expect([method, error?.data.type]).toEqual([method, 'StorageUnavailable'])
    expect(error).toMatchObject({ message: 'free disk space is below store.reserve_mb' })
  }
  expect((await client.call('system.health')).result).toMatchObject({ status: 'degraded' })
  // A flood of what is refused takes none of the disk that a freeze needs: nothing was written but the start's entry.
  // (Stopping wrote one too.)
  expect((await client.call('audit.verify', {})).result.entries).toBe(entries + 2)
  for (const [method, params] of Object.entries(works))
    expect([method, ...told([await client.call(method, params)])]).toEqual([method, 'ok'])
  expect(told([await client.call('spend.check', { ...user, amountUsd: '1' })])).toEqual(['Frozen'])
  expect((await client.call('audit.verify', {})).result).toMatchObject({ ok: true, macChecked: true })
  expect(told([await client.call('system.seal', {})])).toEqual(['ok'])
})
