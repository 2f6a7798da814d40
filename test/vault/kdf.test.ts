import { argon2Sync } from 'node:crypto'
import { argon2id, hash } from 'argon2'
import { describe, expect, test } from 'vitest'
import { hkdfSha256 } from '../../src/vault/hkdf.ts'
import { deriveKek, kdfBounds, kdfParamsAreBounded } from '../../src/vault/kdf.ts'
import { lengthPrefixed, uint32, uint64 } from '../../src/vault/length-prefixed.ts'
import { cheapKdf } from './support.ts'

const masterKey = Buffer.alloc(32, 0x0b)
const salt = Buffer.alloc(16, 0x02)
const usual = { masterKey, salt, userId: 'alice', formatVersion: 1, params: cheapKdf }

describe('argon2', () => {
  test('gives the Argon2id tag of RFC 9106, section 5.3', async () => {
    const tag = await hash(Buffer.alloc(32, 1), {
      raw: true,
      type: argon2id,
      version: 0x13,
      salt: Buffer.alloc(16, 2),
      secret: Buffer.alloc(8, 3),
      associatedData: Buffer.alloc(12, 4),
      memoryCost: 32,
      timeCost: 3,
      parallelism: 4,
      hashLength: 32,
    })
    expect(tag.toString('hex')).toBe('0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659')
  })
})

describe('deriveKek', () => {
  test('is Argon2id of nothing with the master key as secret, as OpenSSL computes it', async () => {
    for (const params of [cheapKdf, { memoryKib: 19_456, iterations: 2 }]) {
      const kek = await deriveKek({ ...usual, params })
      const label = Buffer.from('purser key encryption key')
      const expected = argon2Sync('argon2id', {
        message: Buffer.alloc(0),
        nonce: salt,
        secret: masterKey,
        associatedData: Buffer.concat([
          Buffer.of(0, label.length),
          label,
          Buffer.of(0, 1, 1),
          Buffer.of(0, 5),
          Buffer.from('alice'),
        ]),
        parallelism: 1,
        tagLength: 32,
        memory: params.memoryKib,
        passes: params.iterations,
      })
      expect(kek.equals(expected)).toBe(true)
    }
  })

  test('differs with each thing that goes in', async () => {
    const inputs = [
      usual,
      { ...usual, masterKey: Buffer.alloc(32, 0x0c) },
      { ...usual, salt: Buffer.alloc(16, 0x03) },
      { ...usual, userId: 'bob' },
      { ...usual, formatVersion: 2 },
      { ...usual, params: { memoryKib: 16, iterations: 1 } },
      { ...usual, params: { memoryKib: 8, iterations: 2 } },
    ]
    const keys = await Promise.all(inputs.map(async (input) => (await deriveKek(input)).toString('hex')))
    expect(new Set(keys).size).toBe(inputs.length)
  })

  test('refuses a wiped master key, another length of key or salt, and a cost out of bounds', async () => {
    await expect(deriveKek({ ...usual, masterKey: Buffer.alloc(0) })).rejects.toThrow(
      'a master key is 32 bytes',
    )
    await expect(deriveKek({ ...usual, salt: Buffer.alloc(8) })).rejects.toThrow('a salt is 16 bytes')
    const started = performance.now()
    const params = { memoryKib: 0xffffffff, iterations: 0xffffffff }
    await expect(deriveKek({ ...usual, params })).rejects.toThrow('out of bounds')
    expect(performance.now() - started).toBeLessThan(50)
  })
})

describe('kdfParamsAreBounded', () => {
  const { memoryKib, iterations, work } = kdfBounds

  test.each([
    ['the default', 19_456, 2, true],
    ['the least', memoryKib.min, iterations.min, true],
    ['all memory, as often as the work allows', memoryKib.max, work.max / memoryKib.max, true],
    ['all passes', work.max / iterations.max, iterations.max, true],
    ['less memory than Argon2 takes', memoryKib.min - 1, 1, false],
    ['no pass', 8, 0, false],
    ['more memory', memoryKib.max + 1, 1, false],
    ['more passes', 8, iterations.max + 1, false],
    ['more work', memoryKib.max, work.max / memoryKib.max + 1, false],
    ['a fraction', 8.5, 1, false],
    ['no number', Number.NaN, 1, false],
  ])('%s', (_name, memory, passes, bounded) => {
    expect(kdfParamsAreBounded({ memoryKib: memory, iterations: passes })).toBe(bounded)
  })
})

describe('hkdfSha256', () => {
  test.each([
    {
      name: 'case 1',
      secret: '0b'.repeat(22),
      salt: '000102030405060708090a0b0c',
      info: 'f0f1f2f3f4f5f6f7f8f9',
      okm: '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    },
    {
      name: 'case 3',
      secret: '0b'.repeat(22),
      salt: '',
      info: '',
      okm: '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8',
    },
  ])('gives the output of RFC 5869, appendix A, $name', ({ secret, salt: saltHex, info, okm }) => {
    const hex = (text: string) => Buffer.from(text, 'hex')
    expect(hkdfSha256(hex(secret), hex(saltHex), hex(info), 42).toString('hex')).toBe(okm)
  })
})

describe('lengthPrefixed', () => {
  test('tells apart lists whose parts run together alike', () => {
    const lists = [['ab', 'c'], ['a', 'bc'], ['abc'], ['abc', ''], ['', 'abc'], ['a', 'b', 'c']]
    expect(new Set(lists.map((parts) => lengthPrefixed(parts).toString('hex'))).size).toBe(lists.length)
  })

  test('refuses what it could not encode in one way only', () => {
    expect(() => lengthPrefixed(['\ud800'])).toThrow(RangeError)
    expect(() => lengthPrefixed([Buffer.alloc(65_536)])).toThrow(RangeError)
    expect(() => uint32(2 ** 32)).toThrow(RangeError)
    for (const value of [-1, 1.5, 2 ** 53, Number.NaN]) expect(() => uint64(value)).toThrow(RangeError)
  })
})
