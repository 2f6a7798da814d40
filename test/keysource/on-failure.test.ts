import { randomBytes } from 'node:crypto'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { keyIdOf } from '../../src/vault/keyring.ts'
import { until } from '../flows/story.ts'
import { refused, start } from './support/daemon.ts'
import { sealedOf, startSealing, VaultPlaces } from './support/vault-place.ts'

// key.on_failure = "seal": a source that fails is no reason not to start, and is tried again until there is a key.

const places = new VaultPlaces()

describe('a source that fails at the start', () => {
  test.concurrent('sealed, and unsealed once the key is there, which is audited', async () => {
    const at = places.place()
    const key = randomBytes(32)
    await places.makeStore(at, key)
    places.vault.deleteNewest(at.namespace)
    const purser = await startSealing(at)
    try {
      expect(purser.ready).toMatchObject({ sealed: true })
      expect(purser.logs().join('\n')).toContain('sealed: the key source failed; it is tried again')
      await expect(purser.rpc('users.put', { userId: 'bob' })).rejects.toMatchObject({ type: 'Sealed' })
      await purser.rpc('system.freeze', { reason: 'x' })
      places.vault.put({ key: key.toString('hex') }, at.namespace)
      await until(async () => (await sealedOf(purser)) === false, 20_000)
      await purser.rpc('users.put', { userId: 'bob' })
      const { entries } = await purser.rpc('audit.query', { action: 'system_unsealed' })
      expect(entries).toMatchObject([
        { outcome: 'ok', peer: null, details: { keyFrom: 'source', keyId: keyIdOf(key) } },
      ])
      expect(await purser.rpc('audit.verify')).toMatchObject({ ok: true, macChecked: true })
    } finally {
      await purser.stop()
    }
  })

  test.concurrent('without a store one is made then, as by any start', async () => {
    const at = places.place()
    const purser = await startSealing(at)
    try {
      expect(existsSync(join(at.data, 'purser.db'))).toBe(false)
      await expect(purser.rpc('users.put', { userId: 'bob' })).rejects.toMatchObject({ type: 'Sealed' })
      const key = randomBytes(32)
      places.vault.put({ key: key.toString('hex') }, at.namespace)
      await until(async () => (await sealedOf(purser)) === false, 20_000)
      await purser.rpc('users.put', { userId: 'bob' })
      expect(await purser.rpc('audit.verify')).toMatchObject({ ok: true, entries: 3, macChecked: true })
      await purser.restart()
      expect(purser.ready).toMatchObject({ sealed: false })
    } finally {
      await purser.stop()
    }
  })

  test.concurrent('a missing key file is one that fails', async () => {
    const at = { ...places.place(), env: {} }
    const path = join(at.data, 'master.key')
    const key = randomBytes(32)
    writeFileSync(path, key.toString('hex'), { mode: 0o600 })
    const first = await start(at.data, {})
    await first.stop()
    rmSync(path)
    expect(await refused(start(at.data, {}))).toMatchObject({ exitCode: 77 })
    const purser = await startSealing(at)
    try {
      expect(purser.ready).toMatchObject({ sealed: true })
      writeFileSync(path, key.toString('hex'), { mode: 0o600 })
      await until(async () => (await sealedOf(purser)) === false, 20_000)
    } finally {
      await purser.stop()
    }
  })

  test.concurrent('an operator may unseal it by hand, and then it is not tried again', async () => {
    const at = places.place()
    const key = randomBytes(32)
    await places.makeStore(at, key)
    places.vault.deleteNewest(at.namespace)
    const purser = await startSealing(at)
    try {
      await purser.rpc('system.unseal', { masterKey: key.toString('base64') })
      const asked = () => places.vault.requests.filter(({ namespace }) => namespace === at.namespace).length
      const before = asked()
      await new Promise((resolve) => setTimeout(resolve, 3000))
      expect(asked() - before).toBeLessThanOrEqual(2)
      expect(await sealedOf(purser)).toBe(false)
    } finally {
      await purser.stop()
    }
  })
})
