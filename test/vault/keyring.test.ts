import { createHmac, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { PurserError } from '../../src/errors.ts'
import { unwrapKey, wrapKey } from '../../src/vault/key-wrap.ts'
import {
  createKeyMaterial,
  type KeyMaterial,
  Keyring,
  keyIdOf,
  type MasterKeyRow,
  openKeyring,
  rotateKeyMaterial,
} from '../../src/vault/keyring.ts'
import { flipBit, thrown } from './support.ts'

const masterKey = randomBytes(32)
const material = createKeyMaterial(masterKey)
const { storeId } = material
const [row] = material.rows

function openError(key: Buffer, altered: KeyMaterial): string {
  const error = thrown(() => openKeyring(key, altered))
  return error instanceof PurserError ? error.type : (error as Error).name
}

describe('createKeyMaterial', () => {
  test('makes what a store needs, and another store other keys', () => {
    const other = createKeyMaterial(masterKey)
    expect(row.epoch).toBe(1)
    expect(storeId).toHaveLength(16)
    expect(row.keyId).toBe(
      createHmac('sha256', masterKey).update('purser key id').digest().subarray(0, 8).toString('hex'),
    )
    expect(other.rows[0].keyId).toBe(row.keyId)
    expect(other.storeId.equals(material.storeId)).toBe(false)
    const fingerprints = [material, other].map((made) =>
      openKeyring(masterKey, made).fingerprint(Buffer.from('key')).toString('hex'),
    )
    expect(fingerprints[0]).not.toBe(fingerprints[1])
  })

  test('holds nothing secret', () => {
    const all = Buffer.concat([storeId, row.checkValue, row.wrappedStoreKey])
    expect(all.includes(masterKey.subarray(0, 8))).toBe(false)
  })
})

describe('openKeyring', () => {
  test('gives the same keys each time', () => {
    const [one, two] = [openKeyring(masterKey, material), openKeyring(masterKey, material)]
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
    for (let bit = 0; bit < storeId.length * 8; bit++) {
      expect(openError(masterKey, { ...material, storeId: flipBit(storeId, bit) })).toBe(
        'KeyMaterialDamagedError',
      )
    }
    for (const name of ['checkValue', 'wrappedStoreKey'] as const) {
      for (let bit = 0; bit < row[name].length * 8; bit++) {
        const altered = { ...row, [name]: flipBit(row[name], bit) }
        expect(openError(masterKey, { storeId, rows: [altered] })).toBe('KeyMaterialDamagedError')
      }
    }
  })

  test.each([
    ['another epoch', { epoch: 2 }],
    ['no epoch', { epoch: 0 }],
    ['an epoch that is no number', { epoch: Number.NaN }],
    ['another keyId', { keyId: '0'.repeat(16) }],
    ['a shorter check value', { checkValue: row.checkValue.subarray(1) }],
    ['no wrapped key', { wrappedStoreKey: Buffer.alloc(0) }],
    [
      'the wrapped key of another store',
      { wrappedStoreKey: createKeyMaterial(masterKey).rows[0].wrappedStoreKey },
    ],
  ])('%s is damage', (_name, change) => {
    expect(openError(masterKey, { storeId, rows: [{ ...row, ...change }] })).toBe('KeyMaterialDamagedError')
  })

  test('no row, and a store id of another length, are damage', () => {
    expect(openError(masterKey, { storeId, rows: [] })).toBe('KeyMaterialDamagedError')
    expect(openError(masterKey, { ...material, storeId: storeId.subarray(1) })).toBe(
      'KeyMaterialDamagedError',
    )
  })

  test('refuses a key of another length', () => {
    expect(() => openKeyring(randomBytes(31), material)).toThrow(RangeError)
    expect(() => createKeyMaterial(Buffer.alloc(0))).toThrow(RangeError)
  })
})

describe('Keyring', () => {
  test('copies the master key: its giver may wipe it', () => {
    const given = Buffer.from(masterKey)
    const keyring = openKeyring(given, material)
    given.fill(0)
    expect(keyring.masterKey(1)?.equals(masterKey)).toBe(true)
  })

  test('closed, it holds nothing and everything is Sealed', () => {
    const keyring = openKeyring(masterKey, material)
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
      openedWith: 1,
      masterKeys: new Map([
        [1, masterKey],
        [2, next],
      ]),
      storeKey: Buffer.alloc(32, 1),
    })
    expect(keyring.masterKey(1)?.equals(masterKey)).toBe(true)
    expect(keyring.masterKey(2)?.equals(next)).toBe(true)
    expect(keyring.keyId).toBe(keyIdOf(next))
    const lacking = { storeId, epoch: 3, openedWith: 3, masterKeys: new Map(), storeKey: Buffer.alloc(32) }
    expect(() => new Keyring(lacking)).toThrow(RangeError)
  })
})

describe('a keyring during a rotation', () => {
  const newKey = randomBytes(32)
  const rotation = rotateKeyMaterial(storeId, row, masterKey, newKey)
  const older: MasterKeyRow = { ...row, wrappedOtherKey: rotation.wrappedNewKey }
  const newer = rotation.row
  const rotating: KeyMaterial = { storeId, rows: [older, newer] }

  test('opens with either key, has both, and seals under the new', () => {
    const before = openKeyring(masterKey, material)
    for (const [key, openedWith] of [
      [masterKey, 1],
      [newKey, 2],
    ] as const) {
      const keyring = openKeyring(key, rotating)
      expect(keyring).toMatchObject({ epoch: 2, keyId: keyIdOf(newKey), openedWith })
      expect(keyring.masterKey(1)?.equals(masterKey)).toBe(true)
      expect(keyring.masterKey(2)?.equals(newKey)).toBe(true)
      expect(keyring.fingerprint(Buffer.from('key'))).toEqual(before.fingerprint(Buffer.from('key')))
      expect(keyring.auditMac(Buffer.alloc(32))).toEqual(before.auditMac(Buffer.alloc(32)))
    }
  })

  test('seals under the old key while the new one is not in its file', () => {
    const rows = [older, { ...newer, replacesFile: '/a/key' }]
    expect(openKeyring(masterKey, { storeId, rows }).epoch).toBe(1)
    expect(openKeyring(newKey, { storeId, rows }).epoch).toBe(1)
  })

  test('once over, opens with the new key alone', () => {
    const rows = [{ ...newer, wrappedOtherKey: null }]
    expect(openKeyring(newKey, { storeId, rows }).epoch).toBe(2)
    expect(openError(masterKey, { storeId, rows })).toBe('WrongMasterKey')
  })

  test('holds nothing secret, and another key does not open it', () => {
    const all = Buffer.concat(
      [older, newer].flatMap((one) => [one.checkValue, one.wrappedStoreKey, one.wrappedOtherKey!]),
    )
    for (const key of [masterKey, newKey]) expect(all.includes(key.subarray(0, 8))).toBe(false)
    expect(openError(randomBytes(32), rotating)).toBe('WrongMasterKey')
  })

  test('altered by a bit anywhere, it does not open', () => {
    for (const [mine, key, rowsWith] of [
      [older, masterKey, (one: MasterKeyRow) => [one, newer]],
      [newer, newKey, (one: MasterKeyRow) => [older, one]],
    ] as const) {
      for (const name of ['checkValue', 'wrappedStoreKey', 'wrappedOtherKey'] as const) {
        const bytes = mine[name]!
        for (let bit = 0; bit < bytes.length * 8; bit++) {
          const rows = rowsWith({ ...mine, [name]: flipBit(bytes, bit) })
          expect(openError(key, { storeId, rows })).toBe('KeyMaterialDamagedError')
        }
      }
    }
  })

  test('the row of the other key is held against the key that its wrap gives', () => {
    const other = rotateKeyMaterial(storeId, row, masterKey, randomBytes(32))
    expect(openError(masterKey, { storeId, rows: [older, other.row] })).toBe('KeyMaterialDamagedError')
    const swapped = [{ ...row, wrappedOtherKey: other.wrappedNewKey }, newer]
    expect(openError(masterKey, { storeId, rows: swapped })).toBe('KeyMaterialDamagedError')
  })

  test('wraps moved to another place do not open', () => {
    const foreign = createKeyMaterial(masterKey)
    const moved = rotateKeyMaterial(foreign.storeId, foreign.rows[0], masterKey, newKey)
    const cases: KeyMaterial[] = [
      // Of another store.
      { storeId, rows: [{ ...row, wrappedOtherKey: moved.wrappedNewKey }, newer] },
      // One in the place of the other.
      { storeId, rows: [{ ...row, wrappedOtherKey: newer.wrappedOtherKey }, newer] },
      { storeId, rows: [{ ...older, wrappedStoreKey: older.wrappedOtherKey! }, newer] },
      { storeId, rows: [{ ...older, wrappedOtherKey: older.wrappedStoreKey }, newer] },
      { storeId, rows: [{ ...older, wrappedOtherKey: null }, newer] },
      // Of another epoch.
      { storeId, rows: [older, { ...newer, epoch: 3 }] },
      { storeId, rows: [older, newer, newer] },
      { storeId, rows: [newer, older] },
    ]
    for (const one of cases) expect(openError(masterKey, one)).toBe('KeyMaterialDamagedError')
  })

  test('a running one takes the new key in, seals under it, and lets go of the old', () => {
    const keyring = openKeyring(masterKey, material)
    keyring.add(2, newKey)
    expect(keyring.epoch).toBe(1)
    expect(thrown(() => keyring.add(2, newKey))).toBeInstanceOf(RangeError)
    keyring.sealUnder(2)
    expect([keyring.epoch, keyring.keyId]).toEqual([2, keyIdOf(newKey)])
    const held = keyring.masterKey(1)
    expect(thrown(() => keyring.retire(2))).toBeInstanceOf(RangeError)
    keyring.retire(1)
    keyring.retire(1)
    expect([keyring.masterKey(1), held?.length]).toEqual([null, 0])
    expect(thrown(() => keyring.sealUnder(1))).toBeInstanceOf(RangeError)
    keyring.close()
    expect(thrown(() => keyring.add(3, newKey))).toMatchObject({ type: 'Sealed' })
  })
})

describe('wrapKey', () => {
  test('opens in its place only', () => {
    const key = randomBytes(32)
    const place = { storeId, epoch: 1, purpose: 'store-key' } as const
    const wrapped = wrapKey(masterKey, place, key)
    expect(unwrapKey(masterKey, place, wrapped).equals(key)).toBe(true)
    expect(() => unwrapKey(masterKey, { ...place, epoch: 2 }, wrapped)).toThrow('do not open')
    expect(() => unwrapKey(masterKey, { ...place, storeId: randomBytes(16) }, wrapped)).toThrow('do not open')
    expect(() => unwrapKey(randomBytes(32), place, wrapped)).toThrow('do not open')
    for (const purpose of ['newer-master-key', 'older-master-key'] as const) {
      expect(() => unwrapKey(masterKey, { ...place, purpose }, wrapped)).toThrow('do not open')
    }
  })
})
