import { describe, expect, test } from 'vitest'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { CredentialLifecycle } from '../../src/service/credentials/lifecycle.ts'
import type { StoreParams } from '../../src/service/credentials/storing.ts'
import type { Grant } from '../../src/service/grant.ts'
import { DerivationQueue } from '../../src/vault/derivation-queue.ts'
import { createKeyMaterial, openKeyring } from '../../src/vault/keyring.ts'
import { OpenedCache } from '../../src/vault/opened-cache.ts'
import { Vault } from '../../src/vault/vault.ts'
import { TestStore } from '../store/support.ts'
import { actOf } from '../support/acts.ts'
import { adminCaller, callerOf } from '../support/callers.ts'
import { hardhatKeys } from '../support/flow.ts'

// What holds for a caller who is no admin.

const everyUser: Grant = {
  users: '*',
  credentials: null,
  scopes: new Set(['credentials:write']),
  expiresAtMs: null,
}

const byAdmin = (admin: boolean) => actOf(admin ? adminCaller : callerOf(everyUser))

const secret = (text: string) => new SecretBytes(offHeapCopy(Buffer.from(text)))

function paramsOf(userId: string, fill: number, key?: string): StoreParams {
  const privateKey = key === undefined ? {} : { privateKey: secret(key) }
  return { userId, apiKey: `key-${fill}`, apiSecret: secret('AAAA'), ...privateKey }
}

class Fixture implements Disposable {
  readonly store = new TestStore()
  readonly lifecycle: CredentialLifecycle

  constructor() {
    const masterKey = Buffer.alloc(32, 7)
    const keyring = openKeyring(masterKey, createKeyMaterial(masterKey))
    const vault = new Vault({
      keyring,
      queue: new DerivationQueue(),
      kdf: { memoryKib: 8, iterations: 1 },
    })
    this.lifecycle = new CredentialLifecycle({
      commits: this.store.commits,
      vault: () => vault,
      cache: new OpenedCache({ maxEntries: 10, ttlMs: 1000 }),
      settings: { privateKeyPolicy: 'exportable', maxPerUser: 100 },
      now: Date.now,
    })
  }

  [Symbol.dispose](): void {
    this.store[Symbol.dispose]()
  }
}

const [first, second] = hardhatKeys
const addressTaken = { type: 'Conflict', data: { resource: 'address', field: 'privateKey' } }

describe('a caller who is no admin', () => {
  test('makes no user', async () => {
    using fixture = new Fixture()
    const { lifecycle, store } = fixture
    await expect(lifecycle.store(byAdmin(false), paramsOf('alice', 1))).rejects.toMatchObject({
      type: 'NotFound',
      data: { resource: 'user' },
    })
    expect(store.users).toEqual([])
    expect(store.told).toEqual(['alice'])
    await lifecycle.store(byAdmin(true), paramsOf('alice', 1))
    await lifecycle.store(byAdmin(false), paramsOf('alice', 2))
    expect(store.users).toEqual(['alice'])
  })

  test('stores no private key that an unrevoked credential holds, be it of another user', async () => {
    using fixture = new Fixture()
    const { lifecycle } = fixture
    for (const userId of ['alice', 'bob']) await lifecycle.store(byAdmin(true), paramsOf(userId, 1))
    const held = await lifecycle.store(byAdmin(false), paramsOf('alice', 2, first.privateKey))
    for (const userId of ['alice', 'bob'])
      await expect(
        lifecycle.store(byAdmin(false), paramsOf(userId, 3, first.privateKey)),
      ).rejects.toMatchObject(addressTaken)
    // An admin may; then it is held twice, and one of them revoked is not enough.
    const again = await lifecycle.store(byAdmin(true), paramsOf('bob', 4, first.privateKey))
    await lifecycle.revoke(byAdmin(false), { userId: 'alice', credentialId: held.credentialId })
    await expect(
      lifecycle.store(byAdmin(false), paramsOf('alice', 5, first.privateKey)),
    ).rejects.toMatchObject(addressTaken)
    await lifecycle.revoke(byAdmin(false), { userId: 'bob', credentialId: again.credentialId })
    await lifecycle.store(byAdmin(false), paramsOf('alice', 5, first.privateKey))
  })

  test('nor puts one into another credential', async () => {
    using fixture = new Fixture()
    const { lifecycle } = fixture
    const one = await lifecycle.store(byAdmin(true), paramsOf('alice', 1, first.privateKey))
    const other = await lifecycle.store(byAdmin(true), paramsOf('alice', 2, second.privateKey))
    const into = (credentialId: number, fill: number, key: string) =>
      lifecycle.replace(byAdmin(false), { ...paramsOf('alice', fill, key), credentialId })
    await expect(into(other.credentialId, 3, first.privateKey)).rejects.toMatchObject(addressTaken)
    // Its own it may be given again.
    expect(await into(one.credentialId, 4, first.privateKey)).toMatchObject({ address: first.address })
  })

  test('of many at once with the same private key one is stored', async () => {
    using fixture = new Fixture()
    const { lifecycle } = fixture
    await lifecycle.store(byAdmin(true), paramsOf('alice', 0))
    const settled = await Promise.allSettled(
      Array.from({ length: 10 }, (_, n) =>
        lifecycle.store(byAdmin(false), paramsOf('alice', n + 1, first.privateKey)),
      ),
    )
    expect(settled.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    for (const one of settled) if (one.status === 'rejected') expect(one.reason).toMatchObject(addressTaken)
  })
})
