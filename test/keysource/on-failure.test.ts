import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TestPurser } from '../../src/testing/index.ts'
import { keyIdOf } from '../../src/vault/keyring.ts'
import { until } from '../flows/story.ts'
import { refused, start } from './support/daemon.ts'
import { VaultServer } from './support/vault-server.ts'

// key.on_failure = "seal": a source that fails is no reason not to start, and is tried again until there is a key.

let directory: string
let vault: VaultServer
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'purser-on-failure-'))
  vault = await VaultServer.start()
})
afterAll(async () => {
  await vault.close()
  rmSync(directory, { recursive: true, force: true })
})

type Place = { readonly namespace: string; readonly env: Record<string, string>; readonly data: string }

function place(data = mkdtempSync(join(directory, 'data-'))): Place {
  const namespace = randomBytes(4).toString('hex')
  const token = vault.createToken('read', namespace)
  const env = { VAULT_ADDR: vault.address, VAULT_NAMESPACE: namespace, VAULT_TOKEN: token }
  return { namespace, env, data }
}

const startSealing = ({ data, env }: Place, more: Record<string, string> = {}): Promise<TestPurser> =>
  start(data, { env: { ...env, PURSER_KEY_ON_FAILURE: 'seal' } }, more)

async function makeStore(at: Place, key: Buffer): Promise<void> {
  vault.put({ key: key.toString('hex') }, at.namespace)
  const purser = await start(at.data, { env: at.env })
  await purser.rpc('users.put', { userId: 'alice' })
  await purser.stop()
}

const sealedOf = async (purser: TestPurser) => (await purser.rpc('system.status'))['sealed']

describe('a source that fails at the start', () => {
  test.concurrent('sealed, and unsealed once the key is there, which is audited', async () => {
    const at = place()
    const key = randomBytes(32)
    await makeStore(at, key)
    vault.deleteNewest(at.namespace)
    const purser = await startSealing(at)
    try {
      expect(purser.ready).toMatchObject({ sealed: true })
      expect(purser.logs().join('\n')).toContain('sealed: the key source failed; it is tried again')
      await expect(purser.rpc('users.put', { userId: 'bob' })).rejects.toMatchObject({ type: 'Sealed' })
      await purser.rpc('system.freeze', { reason: 'x' })
      vault.put({ key: key.toString('hex') }, at.namespace)
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
    const at = place()
    const purser = await startSealing(at)
    try {
      expect(existsSync(join(at.data, 'purser.db'))).toBe(false)
      await expect(purser.rpc('users.put', { userId: 'bob' })).rejects.toMatchObject({ type: 'Sealed' })
      const key = randomBytes(32)
      vault.put({ key: key.toString('hex') }, at.namespace)
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
    const at = { ...place(), env: {} }
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
    const at = place()
    const key = randomBytes(32)
    await makeStore(at, key)
    vault.deleteNewest(at.namespace)
    const purser = await startSealing(at)
    try {
      await purser.rpc('system.unseal', { masterKey: key.toString('base64') })
      const asked = () => vault.requests.filter(({ namespace }) => namespace === at.namespace).length
      const before = asked()
      await new Promise((resolve) => setTimeout(resolve, 3000))
      expect(asked() - before).toBeLessThanOrEqual(2)
      expect(await sealedOf(purser)).toBe(false)
    } finally {
      await purser.stop()
    }
  })
})
