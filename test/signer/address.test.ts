import { describe, expect, test } from 'vitest'
import { addressOfPrivateKey, isValidPrivateKey } from '../../src/signer/address.ts'

const key = (hex: string) => Buffer.from(hex.replace(/^0x/, '').padStart(64, '0'), 'hex')
const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n

describe('addressOfPrivateKey', () => {
  // The well-known development keys of Hardhat and Foundry; the keys 1 and n - 1, points G and -G.
  test.each([
    [
      '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
      '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266',
    ],
    [
      '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
      '0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
    ],
    [
      '0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
      '0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC',
    ],
    ['0x1', '0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf'],
    [(order - 1n).toString(16), '0x80C0dbf239224071c59dD8970ab9d542E3414aB2'],
  ])('of %s', (privateKey, address) => {
    expect(addressOfPrivateKey(key(privateKey))).toBe(address)
  })

  test('leaves the key as it is and refuses what is none', () => {
    const given = key('0x05')
    addressOfPrivateKey(given)
    expect(given.equals(key('0x05'))).toBe(true)
    expect(() => addressOfPrivateKey(key('0x00'))).toThrow(RangeError)
    expect(() => addressOfPrivateKey(Buffer.alloc(31, 1))).toThrow(RangeError)
  })
})

describe('isValidPrivateKey', () => {
  test.each([
    ['0', 0n, false],
    ['1', 1n, true],
    ['2^255', 2n ** 255n, true],
    ['n - 256', order - 256n, true],
    ['n - 1', order - 1n, true],
    ['n', order, false],
    ['n + 1', order + 1n, false],
    ['n + 2^128', order + 2n ** 128n, false],
    ['2^256 - 1', 2n ** 256n - 1n, false],
  ])('%s', (_name, value, valid) => {
    expect(isValidPrivateKey(key(value.toString(16)))).toBe(valid)
  })

  test('is 32 bytes', () => {
    for (const length of [0, 31, 33, 64]) expect(isValidPrivateKey(Buffer.alloc(length, 1))).toBe(false)
  })

  test('agrees with bigints around every bit of n', () => {
    for (let bit = 0n; bit < 256n; bit++) {
      const value = order ^ (1n << bit)
      expect(isValidPrivateKey(key(value.toString(16)))).toBe(value > 0n && value < order)
    }
  })
})
