import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, describe, expect, test } from 'vitest'
import { until } from '../flows/story.ts'
import { cleanUp, type Ended, startReady } from '../start/purserd.ts'
import { RawClient } from '../support/raw-client.ts'
import { refused, start } from './support/daemon.ts'
import { silence } from './support/serve.ts'
import { type Place, sealedOf, startSealing, VaultPlaces } from './support/vault-place.ts'

// What ends the waiting of a sealed daemon for its source: a key that is wrong, a seal, a stop.

cleanUp()

const places = new VaultPlaces()
afterEach(() => {
  places.vault.interjections.length = 0
})

/** A daemon that starts sealed, and how it ends by itself after `meanwhile`. */
async function ends({ data, env }: Place, meanwhile: () => void): Promise<Ended> {
  const home = mkdtempSync(join(places.directory, 'home-'))
  const purserd = await startReady(['--data-dir', data, '--socket', join(home, 's')], home, {
    env: { ...env, PURSER_KDF_MEMORY_KIB: '8', PURSER_KEY_ON_FAILURE: 'seal' },
  })
  expect(await purserd.ready()).toMatchObject({ sealed: true })
  meanwhile()
  return await purserd.ended
}

describe('a source that has failed', () => {
  test('a key that does not open the store is 77, at the start and at a later try', async () => {
    const at = places.place()
    await places.makeStore(at, randomBytes(32))
    places.vault.put({ key: randomBytes(32).toString('hex') }, at.namespace)
    const { exitCode, line } = await refused(startSealing(at))
    expect([exitCode, line]).toEqual([77, expect.stringContaining('does not open this store')])
    places.vault.deleteNewest(at.namespace)
    const ended = await ends(at, () =>
      places.vault.put({ key: randomBytes(32).toString('hex') }, at.namespace),
    )
    expect(ended.code).toBe(77)
    expect(ended.stderr).toMatch(
      /^purserd: the master key from Vault at \S+ does not open this store[^\n]+\n$/,
    )
    expect(ended.stdout).toContain('"audit head"')
  })

  test('a key that comes back to a store whose key material is damaged is 69, and not waited for again', async () => {
    const at = places.place()
    const key = randomBytes(32)
    await places.makeStore(at, key)
    const store = new Database(join(at.data, 'purser.db'))
    store.exec('UPDATE master_keys SET wrapped_store_key = zeroblob(length(wrapped_store_key))')
    store.close()
    places.vault.deleteNewest(at.namespace)
    const ended = await ends(at, () => places.vault.put({ key: key.toString('hex') }, at.namespace))
    expect(ended.code).toBe(69)
    expect(ended.stderr).toMatch(/^purserd: the key material of the store is damaged; [^\n]+\n$/)
  })

  test('a key file that holds no key is 78 under it too', async () => {
    const at = { ...places.place(), env: {} }
    const path = join(at.data, 'master.key')
    await (await start(at.data, {})).stop()
    writeFileSync(path, 'nonsense')
    expect((await refused(startSealing(at))).exitCode).toBe(78)
    rmSync(path)
    const ended = await ends(at, () => writeFileSync(path, 'nonsense', { mode: 0o600 }))
    expect(ended.code).toBe(78)
    expect(ended.stderr).toMatch(/^purserd: \S+master.key holds no master key; [^\n]+\n$/)
  })
})

describe('a source that is slow', () => {
  test('a seal cancels an unseal that reads it, and the tries of a daemon that waits for it', async () => {
    const at = places.place()
    await places.makeStore(at, randomBytes(32))
    places.vault.deleteNewest(at.namespace)
    const purser = await startSealing(at)
    try {
      const client = new RawClient(purser.socketPath)
      places.vault.put({ key: randomBytes(32).toString('hex') }, at.namespace)
      // From now on nobody is answered: neither the daemon's own tries nor an operator's.
      for (let n = 0; n < 50; n++) places.vault.interjections.push(silence)
      const asked = () => places.vault.requests.filter(({ namespace }) => namespace === at.namespace).length
      const before = asked()
      const reading = client.call('system.unseal', {})
      await until(() => asked() > before)
      const other = new RawClient(purser.socketPath)
      const startedAtMs = performance.now()
      expect((await other.call('system.seal')).result).toMatchObject({ sealed: true })
      expect((await reading).error).toMatchObject({ data: { type: 'Sealed' } })
      // The read alone would have taken 15 s.
      expect(performance.now() - startedAtMs).toBeLessThan(10_000)
      places.vault.interjections.length = 0
      const after = asked()
      await new Promise((resolve) => setTimeout(resolve, 2500))
      expect(asked()).toBe(after)
      // The key that is there by now would have been the end of it.
      expect(await sealedOf(purser)).toBe(true)
      client.close()
      other.close()
    } finally {
      await purser.stop()
    }
  })

  test('a seal cancels an unseal that waits with a wrong key, and those behind it', async () => {
    const at = places.place()
    const key = randomBytes(32)
    await places.makeStore(at, key)
    const purser = await start(at.data, { env: at.env })
    try {
      await purser.rpc('system.seal')
      const client = new RawClient(purser.socketPath)
      const wrong = { masterKey: randomBytes(32).toString('hex') }
      const waiting = [wrong, wrong, { masterKey: key.toString('hex') }].map((params) =>
        client.call('system.unseal', params),
      )
      await client.call('system.ping')
      await purser.rpc('system.seal')
      for (const answer of await Promise.all(waiting)) expect(answer.error?.data.type).toBe('Sealed')
      expect(await sealedOf(purser)).toBe(true)
      expect((await client.call('system.unseal', { masterKey: key.toString('hex') })).result).toMatchObject({
        sealed: false,
      })
      expect(await purser.rpc('audit.verify')).toMatchObject({ ok: true, macChecked: true })
      client.close()
    } finally {
      await purser.stop()
    }
  })

  test('a stop does not wait for it', async () => {
    const at = places.place()
    await places.makeStore(at, randomBytes(32))
    const purser = await start(at.data, { env: at.env })
    try {
      await purser.rpc('system.seal')
      for (let n = 0; n < 10; n++) places.vault.interjections.push(silence)
      const before = places.vault.requests.length
      const client = new RawClient(purser.socketPath)
      const reading = client.call('system.unseal', {})
      await until(() => places.vault.requests.length > before)
      const startedAtMs = performance.now()
      expect(await purser.kill('SIGTERM')).toMatchObject({ code: 0 })
      expect(performance.now() - startedAtMs).toBeLessThan(5000)
      expect((await reading).error?.data.type).toBe('Overloaded')
    } finally {
      await purser.stop()
    }
  })
})
