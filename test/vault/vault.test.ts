import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { DerivationQueue } from '../../src/vault/derivation-queue.ts'
import { parseEnvelope } from '../../src/vault/envelope.ts'
import { createKeyMaterial, openKeyring } from '../../src/vault/keyring.ts'
import { secureAllocations } from '../../src/vault/secure-memory.ts'
import { type CredentialContext, Vault } from '../../src/vault/vault.ts'
import { alice, cheapKdf, flipBit, newVault, rejection, secrets } from './support.ts'

/** A queue that counts, to see what was derived and what was shared. */
class CountingQueue extends DerivationQueue {
  derivations = 0

  override run<Result>(userId: string, derive: () => Promise<Result>): Promise<Result> {
    this.derivations += 1
    return super.run(userId, derive)
  }
}

async function expectOpens(vault: Vault, envelope: Buffer, context: CredentialContext): Promise<void> {
  const opened = await vault.open(envelope, context)
  expect(opened.apiKey.equals(secrets.apiKey)).toBe(true)
  expect(opened.apiSecret.equals(secrets.apiSecret)).toBe(true)
  expect(opened.passphrase?.equals(secrets.passphrase!)).toBe(true)
  expect(opened.privateKey?.equals(secrets.privateKey!)).toBe(true)
  opened.release()
}

describe('seal and open', () => {
  test('round trip, at another start of the same store too', async () => {
    const masterKey = randomBytes(32)
    const material = createKeyMaterial(masterKey)
    const start = () =>
      new Vault({
        keyring: openKeyring(masterKey, material),
        queue: new DerivationQueue(),
        kdf: cheapKdf,
      })
    const vault = start()
    const envelope = await vault.seal(alice, secrets)
    await expectOpens(vault, envelope, alice)
    await vault.close()
    await expectOpens(start(), envelope, alice)
  })

  test('takes the secrets at the call: the caller may wipe its own at once', async () => {
    const vault = newVault()
    const own = { ...secrets, apiSecret: Buffer.from(secrets.apiSecret) }
    const sealing = vault.seal(alice, own)
    own.apiSecret.fill(0)
    await expectOpens(vault, await sealing, alice)
  })

  test('what is absent opens as null', async () => {
    const vault = newVault()
    const envelope = await vault.seal(alice, { ...secrets, passphrase: null, privateKey: null })
    const opened = await vault.open(envelope, alice)
    expect([opened.passphrase, opened.privateKey]).toEqual([null, null])
    opened.release()
  })

  test('an envelope shows nothing of what it holds, and no two are alike', async () => {
    const vault = newVault()
    const [one, two] = await Promise.all([vault.seal(alice, secrets), vault.seal(alice, secrets)])
    for (const secret of Object.values(secrets)) {
      expect(one!.includes(secret!.subarray(0, 8))).toBe(false)
    }
    expect(one!.equals(two!)).toBe(false)
  })

  test.each<[string, Partial<CredentialContext>]>([
    ['user', { userId: 'bob' }],
    ['credential', { credentialId: 8 }],
    ['policy', { privateKeyPolicy: 'sign-only' }],
  ])('moved to another %s it does not open', async (_name, change) => {
    const vault = newVault()
    const envelope = await vault.seal(alice, secrets)
    const context = { ...alice, ...change }
    expect(await rejection(vault.open(envelope, context))).toMatchObject({
      type: 'DecryptionFailed',
      data: { credentialId: context.credentialId },
    })
  })

  test('moved to another store it does not open, even under the same master key', async () => {
    const masterKey = randomBytes(32)
    const [one, two] = [1, 2].map(
      () =>
        new Vault({
          keyring: openKeyring(masterKey, createKeyMaterial(masterKey)),
          queue: new DerivationQueue(),
          kdf: cheapKdf,
        }),
    )
    const envelope = await one!.seal(alice, secrets)
    expect((await rejection(two!.open(envelope, alice))).type).toBe('DecryptionFailed')
  })

  test('altered by any one bit it does not open', async () => {
    const vault = newVault()
    const envelope = await vault.seal(alice, secrets)
    for (let bit = 0; bit < envelope.length * 8; bit++) {
      const error = await rejection(vault.open(flipBit(envelope, bit), alice))
      expect([bit, error.type, error.data]).toEqual([bit, 'DecryptionFailed', { credentialId: 7 }])
    }
    await expectOpens(vault, envelope, alice)
  })

  test('an absurd cost in a stored envelope is refused at once', async () => {
    const vault = newVault()
    const envelope = await vault.seal(alice, secrets)
    envelope.writeUInt32BE(0xffffffff, 5)
    const started = performance.now()
    expect((await rejection(vault.open(envelope, alice))).type).toBe('DecryptionFailed')
    expect(performance.now() - started).toBeLessThan(50)
  })

  test('an unbounded cost of new envelopes is a mistake at the start', () => {
    expect(() => newVault(new DerivationQueue(), { memoryKib: 8, iterations: 0 })).toThrow(RangeError)
  })

  test('passes Overloaded on', async () => {
    const queue = new DerivationQueue(1, 0)
    const vault = newVault(queue)
    const envelope = await vault.seal(alice, secrets)
    const first = vault.open(envelope, alice)
    expect((await rejection(vault.seal(alice, secrets))).type).toBe('Overloaded')
    ;(await first).release()
  })
})

describe('coalescing', () => {
  test('callers who wait for one envelope share one derivation, and each holds the result', async () => {
    const queue = new CountingQueue()
    const vault = newVault(queue)
    const envelope = await vault.seal(alice, secrets)
    queue.derivations = 0
    expect(vault.isOpening(envelope, alice)).toBe(false)
    const waiting = Array.from({ length: 50 }, () => vault.open(Buffer.from(envelope), { ...alice }))
    expect(vault.isOpening(envelope, alice)).toBe(true)
    const all = await Promise.all(waiting)
    expect(queue.derivations).toBe(1)
    expect(new Set(all).size).toBe(1)
    for (const opened of all.slice(1)) opened.release()
    expect(all[0]!.apiSecret.equals(secrets.apiSecret)).toBe(true)
    all[0]!.release()
    expect(() => all[0]!.apiSecret).toThrow('released')
    expect(vault.isOpening(envelope, alice)).toBe(false)
  })

  test('another envelope, or the same in another context, is an opening of its own', async () => {
    const queue = new CountingQueue()
    const vault = newVault(queue)
    const envelope = await vault.seal(alice, secrets)
    const other = await vault.seal(alice, secrets)
    queue.derivations = 0
    const results = await Promise.allSettled([
      vault.open(envelope, alice),
      vault.open(other, alice),
      vault.open(flipBit(envelope, 8 * (envelope.length - 1)), alice),
      vault.open(envelope, { ...alice, privateKeyPolicy: 'sign-only' }),
      vault.open(envelope, { ...alice, userId: 'bob' }),
      vault.open(envelope, { ...alice, credentialId: 8 }),
    ])
    expect(queue.derivations).toBe(6)
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'rejected',
      'rejected',
      'rejected',
    ])
  })

  test('a failure reaches all who wait, and the next call tries anew', async () => {
    const queue = new CountingQueue()
    const vault = newVault(queue)
    const envelope = flipBit(await vault.seal(alice, secrets), 8 * 60)
    queue.derivations = 0
    const errors = await Promise.all([1, 2, 3].map(() => rejection(vault.open(envelope, alice))))
    expect(errors.map(({ type }) => type)).toEqual(Array(3).fill('DecryptionFailed'))
    expect(queue.derivations).toBe(1)
    await rejection(vault.open(envelope, alice))
    expect(queue.derivations).toBe(2)
  })

  test('who calls as the opening ends is counted or starts anew, and never gets freed memory', async () => {
    const vault = newVault()
    const envelope = await vault.seal(alice, secrets)
    for (let round = 0; round < 30; round++) {
      let first: Promise<void> | null = vault.open(envelope, alice).then((opened) => opened.release())
      void first.finally(() => {
        first = null
      })
      const late: Promise<void>[] = []
      while (first !== null) {
        late.push(expectOpens(vault, envelope, alice))
        await Promise.resolve()
        if (late.length % 16 === 0) await new Promise(setImmediate)
      }
      await Promise.all(late)
    }
  })
})

describe('reseal', () => {
  test('seals anew for another context: the new opens there, the old nowhere new', async () => {
    const queue = new CountingQueue()
    const vault = newVault(queue)
    const signOnly: CredentialContext = { ...alice, privateKeyPolicy: 'sign-only' }
    const envelope = await vault.seal(alice, secrets)
    queue.derivations = 0
    const resealed = await vault.reseal(envelope, alice, signOnly)
    expect(queue.derivations).toBe(2)
    await expectOpens(vault, resealed, signOnly)
    expect((await rejection(vault.open(resealed, alice))).type).toBe('DecryptionFailed')
    expect((await rejection(vault.open(envelope, signOnly))).type).toBe('DecryptionFailed')
  })

  test('has a fresh salt and nonce and the cost of now', async () => {
    const masterKey = randomBytes(32)
    const material = createKeyMaterial(masterKey)
    const at = (memoryKib: number) =>
      new Vault({
        keyring: openKeyring(masterKey, material),
        queue: new DerivationQueue(),
        kdf: { memoryKib, iterations: 1 },
      })
    const envelope = await at(8).seal(alice, secrets)
    const resealed = await at(16).reseal(envelope, alice, alice)
    const [before, after] = [parseEnvelope(envelope, 7), parseEnvelope(resealed, 7)]
    expect([before.kdf.memoryKib, after.kdf.memoryKib]).toEqual([8, 16])
    expect(before.salt.equals(after.salt)).toBe(false)
    expect(envelope.subarray(29, 41).equals(resealed.subarray(29, 41))).toBe(false)
    await expectOpens(at(8), resealed, alice)
  })

  test('of one that does not open rejects and seals nothing', async () => {
    const vault = newVault()
    const envelope = await vault.seal(alice, secrets)
    const error = await rejection(vault.reseal(envelope, { ...alice, userId: 'bob' }, alice))
    expect(error.type).toBe('DecryptionFailed')
  })
})

describe('close', () => {
  test('everything under way, waiting or new ends in Sealed', async () => {
    const vault = newVault(new DerivationQueue(1))
    const envelope = await vault.seal(alice, secrets)
    const underWay = [
      vault.open(envelope, alice),
      vault.open(envelope, alice),
      vault.seal(alice, secrets),
      vault.reseal(envelope, alice, alice),
    ].map(rejection)
    let ended = 0
    for (const each of underWay) void each.then(() => (ended += 1))
    await vault.close()
    await Promise.resolve()
    expect(ended).toBe(underWay.length)
    const late = [vault.open(envelope, alice), vault.seal(alice, secrets)].map(rejection)
    const errors = await Promise.all([...underWay, ...late])
    expect(errors.map(({ type }) => type)).toEqual(Array(6).fill('Sealed'))
    await vault.close()
  })

  test('a derivation that ran through the close gives nothing out', async () => {
    const vault = newVault(new DerivationQueue(), { memoryKib: 65_536, iterations: 1 })
    const envelope = await vault.seal(alice, secrets)
    const running = [vault.seal(alice, secrets), vault.open(envelope, alice)].map(rejection)
    await new Promise(setImmediate)
    void vault.close()
    const errors = await Promise.all(running)
    expect(errors.map(({ type }) => type)).toEqual(['Sealed', 'Sealed'])
  })

  test('an opening that ends in the very turn of the close gives nothing out', async () => {
    let close = () => {}
    class ClosingQueue extends DerivationQueue {
      override async run<Result>(userId: string, derive: () => Promise<Result>): Promise<Result> {
        const result = await super.run(userId, derive)
        close()
        return result
      }
    }
    const vault = newVault(new ClosingQueue())
    const envelope = await vault.seal(alice, secrets)
    close = () => void vault.close()
    expect((await rejection(vault.open(envelope, alice))).type).toBe('Sealed')
  })

  test('leaves no secure memory behind', async () => {
    await new Promise(setImmediate)
    const before = secureAllocations()
    const vault = newVault(new DerivationQueue(1))
    const envelope = await vault.seal(alice, secrets)
    const opened = await vault.open(envelope, alice)
    const failed = rejection(vault.open(flipBit(envelope, 8 * 60), alice))
    await failed
    const underWay = [vault.open(envelope, alice), vault.reseal(envelope, alice, alice)].map(rejection)
    opened.release()
    await vault.close()
    await Promise.all(underWay)
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    expect(secureAllocations()).toBe(before)
  })
})
