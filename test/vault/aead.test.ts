import { createDecipheriv, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { AEAD_NONCE_BYTES, AEAD_TAG_BYTES, AeadOpenError, aeadOpen, aeadSeal } from '../../src/vault/aead.ts'
import { flipBit } from './support.ts'

/** NIST CAVP gcmEncryptExtIV256.rsp (96-bit IV, 128-bit tag), and test case 16 of the GCM submission to NIST. */
const vectors = [
  {
    name: 'CAVP PTlen 128, AADlen 128, count 0',
    key: '92e11dcdaa866f5ce790fd24501f92509aacf4cb8b1339d50c9c1240935dd08b',
    nonce: 'ac93a1a6145299bde902f21a',
    plaintext: '2d71bcfa914e4ac045b2aa60955fad24',
    associatedData: '1e0889016f67601c8ebea4943bc23ad6',
    ciphertext: '8995ae2e6df3dbf96fac7b7137bae67f',
    tag: 'eca5aa77d51d4a0a14d9c51e1da474ab',
  },
  {
    name: 'CAVP PTlen 128, AADlen 160, count 0',
    key: '83688deb4af8007f9b713b47cfa6c73e35ea7a3aa4ecdb414dded03bf7a0fd3a',
    nonce: '0b459724904e010a46901cf3',
    plaintext: '33d893a2114ce06fc15d55e454cf90c3',
    associatedData: '794a14ccd178c8ebfd1379dc704c5e208f9d8424',
    ciphertext: 'cc66bee423e3fcd4c0865715e9586696',
    tag: '0fb291bd3dba94a1dfd8b286cfb97ac5',
  },
  {
    name: 'GCM submission, test case 16',
    key: 'feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308',
    nonce: 'cafebabefacedbaddecaf888',
    plaintext:
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72' +
      '1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
    associatedData: 'feedfacedeadbeeffeedfacedeadbeefabaddad2',
    ciphertext:
      '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa' +
      '8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662',
    tag: '76fc6ece0f4e1768cddf8853bb2d551b',
  },
]

const hex = (text: string) => Buffer.from(text, 'hex')

describe('aeadOpen', () => {
  test.each(vectors)('opens $name', ({ key, nonce, plaintext, associatedData, ciphertext, tag }) => {
    const opened = aeadOpen(hex(key), hex(nonce + ciphertext + tag), hex(associatedData))
    expect(opened.toString('hex')).toBe(plaintext)
  })

  test('refuses every bit that differs, in sealed bytes, key and associated data', () => {
    const { key, nonce, associatedData, ciphertext, tag } = vectors[0]!
    const parts = [hex(key), hex(nonce + ciphertext + tag), hex(associatedData)] as const
    for (const [index, part] of parts.entries()) {
      for (let bit = 0; bit < part.length * 8; bit++) {
        const [k, s, a] = parts.map((bytes, at) => (at === index ? flipBit(bytes, bit) : bytes))
        expect(() => aeadOpen(k!, s!, a!)).toThrow(AeadOpenError)
      }
    }
  })

  test('refuses every shorter tag, and bytes too short to hold nonce, text and tag', () => {
    const { key, nonce, associatedData, ciphertext, tag } = vectors[0]!
    const sealed = hex(nonce + ciphertext + tag)
    for (let length = 0; length < sealed.length; length++) {
      expect(() => aeadOpen(hex(key), sealed.subarray(0, length), hex(associatedData))).toThrow(AeadOpenError)
    }
    expect(() => aeadOpen(hex(key), Buffer.concat([sealed, Buffer.alloc(1)]), hex(associatedData))).toThrow(
      AeadOpenError,
    )
  })

  test('says only that it failed', () => {
    const sealed = aeadSeal(randomBytes(32), Buffer.from('text'), Buffer.from('place'))
    const error = (() => {
      try {
        return aeadOpen(randomBytes(32), sealed, Buffer.from('place'))
      } catch (caught) {
        return caught
      }
    })() as Error
    expect(error.message).toBe('the sealed bytes do not open')
    expect(error.cause).toBeUndefined()
  })

  test('a key of another length is a mistake of the program, not sealed bytes that do not open', () => {
    expect(() => aeadOpen(Buffer.alloc(16), Buffer.alloc(64), Buffer.alloc(1))).not.toThrow(AeadOpenError)
    expect(() => aeadOpen(Buffer.alloc(16), Buffer.alloc(64), Buffer.alloc(1))).toThrow()
  })
})

describe('aeadSeal', () => {
  test('seals what OpenSSL opens, laid out as nonce, ciphertext, tag', () => {
    const key = randomBytes(32)
    const sealed = aeadSeal(key, Buffer.from('plaintext'), Buffer.from('place'))
    expect(sealed.length).toBe(AEAD_NONCE_BYTES + 9 + AEAD_TAG_BYTES)
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12), { authTagLength: 16 })
    decipher.setAAD(Buffer.from('place'))
    decipher.setAuthTag(sealed.subarray(-16))
    const text = Buffer.concat([decipher.update(sealed.subarray(12, -16)), decipher.final()])
    expect(text.toString()).toBe('plaintext')
  })

  test('never uses a nonce twice', () => {
    const key = randomBytes(32)
    const nonces = new Set<string>()
    for (let count = 0; count < 1000; count++) {
      nonces.add(aeadSeal(key, Buffer.from('x'), Buffer.from('place')).toString('hex', 0, 12))
    }
    expect(nonces.size).toBe(1000)
  })

  test('refuses to seal nothing', () => {
    expect(() => aeadSeal(randomBytes(32), Buffer.alloc(0), Buffer.from('place'))).toThrow(RangeError)
  })
})
