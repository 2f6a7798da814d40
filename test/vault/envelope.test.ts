import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeSecrets, encodeSecrets } from '../../src/vault/credential-secrets.ts'
import {
  associatedData,
  type EnvelopeContext,
  newEnvelopeHeader,
  openEnvelope,
  parseEnvelope,
  sealEnvelope,
} from '../../src/vault/envelope.ts'
import { secureFree } from '../../src/vault/secure-memory.ts'
import { cheapKdf, flipBit, secrets, thrown } from './support.ts'

const kek = randomBytes(32)
const plaintext = encodeSecrets(secrets)
const header = newEnvelopeHeader(1, cheapKdf)
const context: EnvelopeContext = {
  storeId: randomBytes(16),
  userId: 'alice',
  credentialId: 7,
  privateKeyPolicy: 'exportable',
}
const envelope = sealEnvelope(kek, header, context, plaintext)

/** Opens with the header the envelope itself claims and, on purpose, always the right key: the tag alone must refuse. */
function open(bytes: Buffer, where: EnvelopeContext = context): Buffer {
  return openEnvelope(kek, parseEnvelope(bytes, where.credentialId), where, bytes)
}

function expectRefused(bytes: Buffer, where: EnvelopeContext = context): void {
  const error = thrown(() => open(bytes, where))
  expect(error).toMatchObject({
    type: 'DecryptionFailed',
    data: { credentialId: where.credentialId },
    message: 'the stored envelope does not open',
  })
  expect((error as Error).cause).toBeUndefined()
}

describe('envelope', () => {
  test('is laid out as documented', () => {
    expect(envelope[0]).toBe(1)
    expect(envelope.readUInt32BE(1)).toBe(1)
    expect(envelope.readUInt32BE(5)).toBe(cheapKdf.memoryKib)
    expect(envelope.readUInt32BE(9)).toBe(cheapKdf.iterations)
    expect(envelope.subarray(13, 29).equals(header.salt)).toBe(true)
    expect(envelope).toHaveLength(29 + 12 + plaintext.length + 16)
    expect(parseEnvelope(envelope, 7)).toEqual(header)
    expect(open(envelope).equals(plaintext)).toBe(true)
  })

  test('has a salt of its own', () => {
    const salts = Array.from({ length: 1000 }, () => newEnvelopeHeader(1, cheapKdf).salt.toString('hex'))
    expect(new Set(salts).size).toBe(1000)
  })

  test('does not open with any one bit flipped', () => {
    for (let bit = 0; bit < envelope.length * 8; bit++) expectRefused(flipBit(envelope, bit))
  })

  test('does not open truncated or extended, at either end', () => {
    for (let length = 0; length < envelope.length; length++) {
      expectRefused(envelope.subarray(0, length))
      expectRefused(envelope.subarray(envelope.length - length))
    }
    expectRefused(Buffer.concat([envelope, Buffer.alloc(1)]))
    expectRefused(Buffer.concat([Buffer.of(1), envelope]))
    expectRefused(Buffer.concat([envelope, envelope]))
    expectRefused(Buffer.alloc(10_000_000, 1))
  })

  test.each<[string, Partial<EnvelopeContext>]>([
    ['user', { userId: 'bob' }],
    ['user that begins alike', { userId: 'alice2' }],
    ['credential', { credentialId: 8 }],
    ['store', { storeId: randomBytes(16) }],
    ['policy', { privateKeyPolicy: 'sign-only' }],
  ])('does not open under another %s', (_name, change) => {
    expectRefused(envelope, { ...context, ...change })
  })

  test.each([
    ['version', 0, [0, 2, 255]],
    ['epoch', 4, [0, 2, 255]],
    ['memory', 8, [16, 64]],
    ['iterations', 12, [2, 3]],
  ])('does not open under another %s', (_name, offset, values) => {
    for (const value of values) {
      const altered = Buffer.from(envelope)
      altered[offset] = value
      expectRefused(altered)
    }
  })

  test('parts of two envelopes of one key do not make a third', () => {
    const other = sealEnvelope(kek, newEnvelopeHeader(1, cheapKdf), context, plaintext)
    for (const cut of [21, 29, 41, 60, envelope.length - 16]) {
      expectRefused(Buffer.concat([envelope.subarray(0, cut), other.subarray(cut)]))
    }
  })

  test('random changes never open, and never fail in another way', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(envelope.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        (changes) => {
          const altered = Buffer.from(envelope)
          for (const [at, value] of changes) altered[at] = value
          if (altered.equals(envelope)) return
          expectRefused(altered)
        },
      ),
    )
  })

  test('random bytes never open, and never fail in another way', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expectRefused(Buffer.from(bytes))
        expectRefused(Buffer.concat([envelope.subarray(0, 29), bytes]))
      }),
    )
  })

  test('a cost out of bounds is refused before any work', () => {
    const absurd = Buffer.from(envelope)
    absurd.writeUInt32BE(0xffffffff, 5)
    expect(thrown(() => parseEnvelope(absurd, 7))).toMatchObject({ type: 'DecryptionFailed' })
    absurd.writeUInt32BE(8, 5)
    absurd.writeUInt32BE(0xffffffff, 9)
    expect(thrown(() => parseEnvelope(absurd, 7))).toMatchObject({ type: 'DecryptionFailed' })
  })
})

describe('associatedData', () => {
  const userId = fc.string({ unit: fc.constantFrom('a', 'b', '1', ':', '-'), minLength: 1, maxLength: 6 })
  const anyContext = fc.record<EnvelopeContext>({
    storeId: fc.constantFrom(Buffer.alloc(16, 1), Buffer.alloc(16, 2)),
    userId,
    credentialId: fc.integer({ min: 1, max: 3 }),
    privateKeyPolicy: fc.constantFrom('exportable', 'sign-only'),
  })
  const anyHeader = fc.record({
    epoch: fc.integer({ min: 1, max: 2 }),
    kdf: fc.record({ memoryKib: fc.constantFrom(8, 16), iterations: fc.constantFrom(1, 2) }),
    salt: fc.constantFrom(Buffer.alloc(16, 3), Buffer.alloc(16, 4)),
  })

  test('is equal exactly where all it binds is equal', () => {
    const text = (value: unknown) => JSON.stringify(value)
    fc.assert(
      fc.property(anyHeader, anyContext, anyHeader, anyContext, (h1, c1, h2, c2) => {
        const same = text([h1, c1]) === text([h2, c2])
        expect(associatedData(h1, c1).equals(associatedData(h2, c2))).toBe(same)
        expect(associatedData(h1, c1).equals(associatedData({ ...h1 }, { ...c1 }))).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('secrets', () => {
  const bytes = (maxLength: number, minLength = 1) =>
    fc.uint8Array({ minLength, maxLength }).map((array) => Buffer.from(array))
  const anySecrets = fc.record({
    apiKey: bytes(256),
    apiSecret: bytes(300),
    passphrase: fc.option(bytes(100, 0)),
    privateKey: fc.option(bytes(32, 32)),
  })

  test('come back as they went in, absent ones as null, an empty passphrase as empty', () => {
    fc.assert(
      fc.property(anySecrets, (given) => {
        const encoded = encodeSecrets(given)
        const decoded = decodeSecrets(encoded)
        for (const name of ['apiKey', 'apiSecret', 'passphrase', 'privateKey'] as const) {
          expect(decoded?.[name]?.toString('hex')).toBe(given[name]?.toString('hex'))
          expect(decoded?.[name] === null).toBe(given[name] === null)
        }
        secureFree(encoded)
      }),
    )
  })

  test('the longest fields fit', () => {
    const long = Buffer.alloc(65_535, 'x')
    const given = { apiKey: long, apiSecret: long, passphrase: long, privateKey: Buffer.alloc(32, 1) }
    const encoded = encodeSecrets(given)
    expect(open(sealEnvelope(kek, header, context, encoded)).equals(encoded)).toBe(true)
    expect(() => encodeSecrets({ ...given, apiSecret: Buffer.alloc(65_536) })).toThrow(RangeError)
  })

  test('a malformed plaintext is null, wherever it is cut', () => {
    for (let length = 0; length < plaintext.length; length++) {
      expect(decodeSecrets(plaintext.subarray(0, length))).toBeNull()
    }
    expect(decodeSecrets(Buffer.concat([plaintext, Buffer.alloc(1)]))).toBeNull()
    expect(decodeSecrets(Buffer.of(0, 0, 0, 0))).toBeNull()
    expect(decodeSecrets(Buffer.of(2, 0, 1, 65))).toBeNull()
  })

  test('refuses what is no credential', () => {
    expect(() => encodeSecrets({ ...secrets, apiKey: Buffer.alloc(0) })).toThrow(RangeError)
    expect(() => encodeSecrets({ ...secrets, apiSecret: Buffer.alloc(0) })).toThrow(RangeError)
    expect(() => encodeSecrets({ ...secrets, privateKey: Buffer.alloc(31) })).toThrow(RangeError)
  })
})
