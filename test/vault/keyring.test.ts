import { createHmac, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { PurserError } from '../../src/errors.ts'
import { unwrapKey, wrapKey } from '../../src/vault/key-wrap.ts'
import {
  createKeyMaterial,
  type KeyMaterial,
  KeyMaterialDamagedError,
  Keyring,
  keyIdOf,
  openKeyMaterial,
} from '../../src/vault/keyring.ts'
import { flipBit, thrown } from './support.ts'

const masterKey = randomBytes(32)
const material = createKeyMaterial(masterKey)

function openError(key: Buffer, altered: KeyMaterial): string {
  const error = thrown(() => openKeyMaterial(key, altered))
  return error instanceof PurserError ? error.type : (error as Error).name
}

describe('createKeyMaterial', () => {
  test('makes what a store needs, and another store other keys', () => {
    const other = createKeyMaterial(masterKey)
    expect(material.epoch).toBe(1)
    expect(material.storeId).toHaveLength(16)
    expect(material.keyId).toBe(
      createHmac('sha256', masterKey).update('purser key id').digest().subarray(0, 8).toString('hex'),
    )
    expect(other.keyId).toBe(material.keyId)
    expect(other.storeId.equals(material.storeId)).toBe(false)
    const fingerprints = [material, other].map((made) =>
      openKeyMaterial(masterKey, made).fingerprint(Buffer.from('key')).toString('hex'),
    )
    expect(fingerprints[0]).not.toBe(fingerprints[1])
  })

  test('holds nothing secret', () => {
    const all = Buffer.concat([material.storeId, material.checkValue, material.wrappedStoreKey])
    expect(all.includes(masterKey.subarray(0, 8))).toBe(false)
  })
})

describe('openKeyMaterial', () => {
  test('gives the same keys each time', () => {
    const [one, two] = [openKeyMaterial(masterKey, material), openKeyMaterial(masterKey, material)]
    expect(one.fingerprint(Buffer.from('api key'))).toEqual(two.fingerprint(Buffer.from('api key')))
    expect(one.auditMac(Buffer.alloc(32))).toEqual(two.auditMac(Buffer.alloc(32)))
    expect(one.fingerprint(Buffer.alloc(32))).not.toEqual(one.auditMac(Buffer.alloc(32)))
    expect(one.masterKey(1)?.equals(masterKey)).toBe(true)
    expect(one.masterKey(2)).toBeNull()
    expect([one.epoch, one.keyId]).toEqual([1, keyIdOf(masterKey)])
  })

  test('another key is WrongMasterKey, also one that differs by a bit', () => {
    expect(openError(randomBytes(32), material)).toBe('WrongMasterKey')
    for (let bit = 0; bit < 256; bit++) {
      expect(openError(flipBit(masterKey, bit), material)).toBe('WrongMasterKey')
    }
  })

  test('the right key with material altered by a bit is damage, not a wrong key', () => {
    for (const name of ['storeId', 'checkValue', 'wrappedStoreKey'] as const) {
      for (let bit = 0; bit < material[name].length * 8; bit++) {
        const altered = { ...material, [name]: flipBit(material[name], bit) }
        expect(openError(masterKey, altered)).toBe('KeyMaterialDamagedError')
      }
    }
  })

  test.each([
    ['another epoch', { epoch: 2 }],
    ['no epoch', { epoch: 0 }],
    ['an epoch that is no number', { epoch: Number.NaN }],
    ['another keyId', { keyId: '0'.repeat(16) }],
    ['a shorter store id', { storeId: material.storeId.subarray(1) }],
    ['a shorter check value', { checkValue: material.checkValue.subarray(1) }],
    ['no wrapped key', { wrappedStoreKey: Buffer.alloc(0) }],
    ['the wrapped key of another store', { wrappedStoreKey: createKeyMaterial(masterKey).wrappedStoreKey }],
  ])('%s is damage', (_name, change) => {
    const error = thrown(() => openKeyMaterial(masterKey, { ...material, ...change }))
    expect(error).toBeInstanceOf(KeyMaterialDamagedError)
  })

  test('refuses a key of another length', () => {
    expect(() => openKeyMaterial(randomBytes(31), material)).toThrow(RangeError)
    expect(() => createKeyMaterial(Buffer.alloc(0))).toThrow(RangeError)
  })
})

describe('Keyring', () => {
  test('copies the master key: its giver may wipe it', () => {
    const given = Buffer.from(masterKey)
    const keyring = openKeyMaterial(given, material)
    given.fill(0)
    expect(keyring.masterKey(1)?.equals(masterKey)).toBe(true)
  })

  test('closed, it holds nothing and everything is Sealed', () => {
    const keyring = openKeyMaterial(masterKey, material)
    const held = keyring.masterKey(1)
    keyring.close()
    keyring.close()
    expect(keyring.closed).toBe(true)
    expect(held).toHaveLength(0)
    const uses = [
      () => keyring.masterKey(1),
      () => keyring.fingerprint(Buffer.from('x')),
      () => keyring.auditMac(Buffer.alloc(32)),
    ]
    for (const use of uses) expect(thrown(use)).toMatchObject({ type: 'Sealed' })
  })

  test('holds the keys of several epochs', () => {
    const next = randomBytes(32)
    const keyring = new Keyring({
      storeId: material.storeId,
      epoch: 2,
      masterKeys: new Map([
        [1, masterKey],
        [2, next],
      ]),
      storeKey: Buffer.alloc(32, 1),
    })
    expect(keyring.masterKey(1)?.equals(masterKey)).toBe(true)
    expect(keyring.masterKey(2)?.equals(next)).toBe(true)
    expect(keyring.keyId).toBe(keyIdOf(next))
    const lacking = { storeId: material.storeId, epoch: 3, masterKeys: new Map(), storeKey: Buffer.alloc(32) }
    expect(() => new Keyring(lacking)).toThrow(RangeError)
  })
})

describe('wrapKey', () => {
  test('opens in its place only', () => {
    const storeId = randomBytes(16)
    const key = randomBytes(32)
    const place = { storeId, epoch: 1, purpose: 'store-key' } as const
    const wrapped = wrapKey(masterKey, place, key)
    expect(unwrapKey(masterKey, place, wrapped).equals(key)).toBe(true)
    expect(() => unwrapKey(masterKey, { ...place, epoch: 2 }, wrapped)).toThrow('do not open')
    expect(() => unwrapKey(masterKey, { ...place, storeId: randomBytes(16) }, wrapped)).toThrow('do not open')
    expect(() => unwrapKey(randomBytes(32), place, wrapped)).toThrow('do not open')
    const elsewhere = { ...place, purpose: 'other' as 'store-key' }
    expect(() => unwrapKey(masterKey, elsewhere, wrapped)).toThrow('do not open')
  })
})
