import { describe, expect, test } from 'vitest'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { encodeFrame, parseLine } from '../../src/transport/secret-json.ts'

function secret(text: string): SecretBytes {
  return new SecretBytes(offHeapCopy(Buffer.from(text)))
}

function lines(bytes: Buffer): unknown[] {
  const text = bytes.toString()
  expect(text.endsWith('\n')).toBe(true)
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line))
}

describe('encodeFrame', () => {
  test('writes each answer as one line', () => {
    const answers = [{ id: 1, result: 'é\n€😀\ud800' }, [{ id: 2 }, { id: null }], null, 'x']
    const { bytes, hasSecrets } = encodeFrame(answers)
    expect(lines(bytes)).toEqual(answers)
    expect(hasSecrets).toBe(false)
    expect(encodeFrame([]).bytes).toHaveLength(0)
  })

  test('writes secrets in their places', () => {
    const answer = (apiSecret: unknown, privateKey: unknown) => ({
      id: 1,
      result: { credentialId: 1, name: 'a "name" é😀', apiSecret, passphrase: null, privateKey, list: [] },
    })
    const { bytes, hasSecrets } = encodeFrame([answer(secret('c2VjcmV0'), secret('0x01'))])
    expect(hasSecrets).toBe(true)
    expect(bytes.toString()).toBe(`${JSON.stringify(answer('c2VjcmV0', '0x01'))}\n`)
  })

  test('as one buffer of its own', () => {
    const { bytes } = encodeFrame([{ a: secret('s') }])
    expect(bytes.byteOffset).toBe(0)
    expect(bytes.buffer.byteLength).toBe(bytes.length)
  })

  test('escapes what JSON escapes', () => {
    let text = 'é€😀\u007f\u2028'
    for (let code = 0; code < 0x80; code++) text += String.fromCharCode(code)
    const { bytes } = encodeFrame([[secret(text), secret(''), secret('"'), secret('\\'), secret('\u0000')]])
    expect(lines(bytes)).toEqual([[text, '', '"', '\\', '\u0000']])
  })

  test('many secrets, many answers, one secret often', () => {
    const shared = secret('shared "one"')
    const answers = Array.from({ length: 130 }, (_, i) => ({ id: i, a: secret(`n${i}`), b: [shared] }))
    const { bytes } = encodeFrame(answers)
    expect(lines(bytes)).toEqual(answers.map(({ id }) => ({ id, a: `n${id}`, b: ['shared "one"'] })))
  })

  test('a secret that is the whole answer', () => {
    expect(encodeFrame([secret('all')]).bytes.toString()).toBe('"all"\n')
  })

  test('a wiped secret is wiped in the answer too', () => {
    const wiped = secret('c2VjcmV0')
    encodeFrame([wiped])
    wiped.wipe()
    expect(lines(encodeFrame([wiped]).bytes)).toEqual(['\u0000'.repeat(8)])
  })

  test('data that resembles a hole is data', () => {
    const strings = [
      '[secret]',
      '~AAAAAAAAAAAAAAAAAAAAAA~0',
      '~0',
      '"~',
      '~AAAAAAAAAAAAAAAAAAAAAA~0":"',
      '{"$secret":0}',
    ]
    const data = { strings, [strings[1]!]: strings[1], s: secret('x'), t: strings }
    expect(lines(encodeFrame([data]).bytes)).toEqual([{ ...data, s: 'x' }])
  })

  test('a secret as a member name or outside encodeFrame stays hidden', () => {
    const hidden = secret('hidden')
    expect(encodeFrame([{ [`${hidden}`]: 1 }]).bytes.toString()).toBe('{"[secret]":1}\n')
    expect(JSON.stringify(hidden)).toBe('"[secret]"')
    encodeFrame([hidden])
    expect(JSON.stringify(hidden)).toBe('"[secret]"')
  })

  test('a secret that did not come out as a string is an error', () => {
    const hidden = secret('hidden')
    const dropped = { toJSON: () => hidden.toJSON().length }
    const nested = { toJSON: () => JSON.stringify({ hidden }) }
    const longer = { toJSON: () => `${hidden.toJSON()}0` }
    const prefixed = { toJSON: () => `x${hidden.toJSON()}` }
    for (const answer of [dropped, nested, longer, prefixed])
      expect(() => encodeFrame([answer])).toThrow('no JSON string')
    expect(JSON.stringify(hidden)).toBe('"[secret]"')
  })

  test('an answer that is no JSON value is an error', () => {
    expect(() => encodeFrame([undefined])).toThrow(TypeError)
    expect(() => encodeFrame([1n])).toThrow(TypeError)
  })

  test('what parseLine cut out, encodeFrame writes', () => {
    const text = '{"params":{"passphrase":"\\u0022\\ud83d\\ude00 \\\\ \\u0000"}}'
    const parsed = parseLine(Buffer.from(text))
    expect(lines(encodeFrame([parsed?.value]).bytes)).toEqual([JSON.parse(text)])
  })
})
