import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeMasterKey, encodeMasterKeyBase64, parseMasterKey } from '../../src/keysource/parse-key.ts'

const seed = process.env['PURSER_TEST_SEED']
const runs = seed === undefined ? { numRuns: 500 } : { numRuns: 500, seed: Number(seed) }

const keys = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes))
const blanks = fc.string({ unit: fc.constantFrom(' ', '\t', '\n', '\r', '\v', '\f'), maxLength: 5 })

/** Every spelling of a key that the contract names. */
const spellings: [name: string, spell: (key: Buffer) => string][] = [
  ['base64', (key) => key.toString('base64')],
  ['base64 without padding', (key) => key.toString('base64').replace('=', '')],
  ['base64url', (key) => key.toString('base64url')],
  ['base64url with padding, as Fernet prints it', (key) => `${key.toString('base64url')}=`],
  ['hex', (key) => key.toString('hex')],
  ['hex in capitals', (key) => key.toString('hex').toUpperCase()],
]

const parse = (text: string) => parseMasterKey(Buffer.from(text, 'latin1'))

describe.each(spellings)('%s', (_, spell) => {
  test('is read, white space around it trimmed', () => {
    fc.assert(
      fc.property(keys, blanks, blanks, (key, before, after) => {
        expect(parse(`${before}${spell(key)}${after}`)).toEqual(key)
      }),
      runs,
    )
  })

  test('is refused with a digit too few, too many, or one that is none', () => {
    fc.assert(
      fc.property(
        keys,
        fc.nat(42),
        fc.constantFrom('', ' ', '=', '~', '\0', '\xe9', '00'),
        (key, at, wrong) => {
          const text = spell(key)
          expect(parse(`${text.slice(0, at)}${wrong}${text.slice(at + 1)}`)).toBeNull()
        },
      ),
      runs,
    )
  })
})

test.each([
  ['', 'nothing'],
  [' \n', 'white space'],
  ['='.repeat(44), 'padding'],
  [`${'A'.repeat(43)}==`, 'two padding characters'],
  [`${'A'.repeat(42)}=`, '31 bytes and padding'],
  [`${'A'.repeat(42)}==`, '31 bytes and right padding'],
  [`${'A'.repeat(42)}B`, 'a left-over bit'],
  [`${'A'.repeat(42)}B=`, 'a left-over bit, padded'],
  [`+_${'A'.repeat(41)}`, 'both alphabets'],
  [`0x${'0'.repeat(64)}`, 'hex with a prefix'],
  ['0'.repeat(62), '31 bytes of hex'],
  ['0'.repeat(66), '33 bytes of hex'],
  [`${'0'.repeat(63)}g`, 'a digit beyond f'],
  [`"${'A'.repeat(43)}"`, 'quotes'],
  [`key=${'A'.repeat(43)}`, 'a name before it'],
  [`${'A'.repeat(21)}\n${'A'.repeat(22)}`, 'a line break inside'],
  ['x'.repeat(32), '32 raw bytes'],
])('%j is refused: %s', (text) => {
  expect(parse(text)).toBeNull()
})

test('zeros are a key like any other', () => {
  expect(parse('A'.repeat(43))).toEqual(Buffer.alloc(32))
})

test('the key has memory of its own, and the text is left to the caller', () => {
  const text = Buffer.from(` ${'A'.repeat(42)}E \n`)
  const before = Buffer.from(text)
  const key = parseMasterKey(text)
  expect(key?.buffer.byteLength).toBe(32)
  expect(text).toEqual(before)
})

test('what a key file gets is read back as the same key', () => {
  fc.assert(
    fc.property(keys, (key) => {
      const text = encodeMasterKey(key)
      expect(text.toString()).toBe(`${key.toString('hex')}\n`)
      expect(parseMasterKey(text)).toEqual(key)
    }),
    runs,
  )
})

test('a key as base64 is what Buffer makes of it, in memory off the V8 heap', () => {
  fc.assert(
    fc.property(keys, (key) => {
      const text = encodeMasterKeyBase64(key)
      expect(text.toString('latin1')).toBe(key.toString('base64'))
      expect(text.buffer.byteLength).toBe(44)
    }),
    runs,
  )
})

test('no 32 bytes are the text of a key: a service may give either', () => {
  fc.assert(
    fc.property(keys, (bytes) => {
      expect(parseMasterKey(bytes)).toBeNull()
    }),
    runs,
  )
})
