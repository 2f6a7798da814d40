import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalApiSecret, parsePrivateKey } from '../../src/service/credentials/secret-forms.ts'

const canonical = (text: string) => canonicalApiSecret(Buffer.from(text)).toString('latin1')
const refused = (path: string) =>
  expect.objectContaining({ type: 'InvalidParams', data: { issues: [expect.objectContaining({ path })] } })

describe('the API secret', () => {
  test('every bytes in every form have one canonical form', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), (bytes) => {
        const base64 = Buffer.from(bytes).toString('base64')
        const kept = base64.replaceAll('+', '-').replaceAll('/', '_')
        for (const form of [base64, base64.replace(/=+$/, ''), kept, kept.replace(/=+$/, '')])
          expect(canonical(form)).toBe(kept)
      }),
    )
  })

  test('whatever is taken decodes and encodes to itself, and nothing else is taken', () => {
    const digits = fc.constantFrom(...'AQgw/+-_=z9 \n')
    fc.assert(
      fc.property(fc.string({ unit: digits, maxLength: 12 }), (text) => {
        const body = text.replace(/=*$/, '')
        const padded = body.padEnd(Math.ceil(body.length / 4) * 4, '=')
        const isOneAlphabet = /^[A-Za-z0-9+/]+$/.test(body) || /^[A-Za-z0-9_-]+$/.test(body)
        const again = Buffer.from(body, 'base64').toString('base64')
        const sound =
          isOneAlphabet &&
          (text === body || text === padded) &&
          again === padded.replaceAll('-', '+').replaceAll('_', '/')
        if (sound) expect(canonical(text)).toBe(padded.replaceAll('+', '-').replaceAll('/', '_'))
        else expect(() => canonical(text)).toThrow(refused('apiSecret'))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('the private key', () => {
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
  const parse = (text: string) => parsePrivateKey(Buffer.from(text)).toString('hex')

  test('every number in 1..n-1, with or without 0x, in any case', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: order - 1n }), (value) => {
        const hex = value.toString(16).padStart(64, '0')
        for (const form of [hex, `0x${hex}`, hex.toUpperCase(), `0x${hex.toUpperCase()}`])
          expect(parse(form)).toBe(hex)
      }),
    )
    expect(parse((order - 1n).toString(16))).toBe((order - 1n).toString(16))
  })

  test('nothing else', () => {
    const hex = '1'.repeat(64)
    for (const bad of [
      '',
      '0x',
      hex.slice(1),
      `${hex}1`,
      `0X${hex}`,
      `x${hex}`,
      `0x${hex}1`,
      `${hex.slice(1)}g`,
    ])
      expect(() => parse(bad), bad).toThrow(refused('privateKey'))
    fc.assert(
      fc.property(fc.bigInt({ min: order, max: 2n ** 256n - 1n }), (value) => {
        expect(() => parse(value.toString(16))).toThrow(refused('privateKey'))
      }),
    )
    expect(() => parse('0'.repeat(64))).toThrow(refused('privateKey'))
    // A byte that only looks like a digit once its case bit is set.
    for (let byte = 0; byte < 256; byte++) {
      const text = Buffer.from(hex, 'latin1')
      text[5] = byte
      const isDigit = /[0-9a-fA-F]/.test(String.fromCharCode(byte))
      if (isDigit) expect(() => parsePrivateKey(text)).not.toThrow()
      else expect(() => parsePrivateKey(text), String(byte)).toThrow(refused('privateKey'))
    }
  })
})
