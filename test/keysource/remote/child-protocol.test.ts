import { expect, test } from 'vitest'
import {
  decodeReport,
  decodeRequest,
  encodeReport,
  encodeRequest,
  isWholeRequest,
} from '../../../src/keysource/remote/child-protocol.ts'
import { offHeapCopy, SecretBytes } from '../../../src/secret.ts'

const secret = (text: string) => new SecretBytes(offHeapCopy(Buffer.from(text)))

test('a request comes back as it went, whatever is in its values', () => {
  const request = encodeRequest([
    ['A', 'x=y\nz'],
    ['EMPTY', ''],
    ['SECRET', secret('hu=sh ü')],
    ['__proto__', 'own'],
  ])
  const decoded = decodeRequest(request)
  expect(Object.entries(decoded).filter(([name]) => name !== '__proto__')).toEqual([
    ['A', 'x=y\nz'],
    ['EMPTY', ''],
    ['SECRET', 'hu=sh ü'],
  ])
  expect(decodeRequest(encodeRequest([]))).toEqual({})
})

test('it is whole at its last byte and not before', () => {
  for (const variables of [[], [['A', '']], [['A', '1'] as const, ['B', ''] as const]] as const) {
    const request = encodeRequest(variables as readonly (readonly [string, string])[])
    const whole = Array.from({ length: request.length + 1 }, (_, end) =>
      isWholeRequest(request.subarray(0, end)),
    )
    expect(whole.indexOf(true)).toBe(request.length)
  }
})

test('an environment that is too large is refused', () => {
  expect(() => encodeRequest([['A', 'x'.repeat(200_000)]])).toThrow(RangeError)
})

test('a report comes back; anything else is none', () => {
  const failure = { reason: 'a', hint: 'b', exit: 'config' } as const
  expect(decodeReport(encodeReport(failure))).toEqual(failure)
  expect(decodeReport(encodeReport({ warning: 'w' }))).toEqual({ warning: 'w' })
  for (const text of [
    '',
    'x',
    'null',
    '[]',
    '{}',
    '{"reason":"a","hint":"b"}',
    '{"reason":"a","hint":"b","exit":"ok"}',
    '{"reason":"","hint":"b","exit":"config"}',
    `{"warning":"${'w'.repeat(2000)}"}`,
    `Error: x\n${encodeReport(failure)}`,
    encodeReport(failure) + encodeReport(failure),
  ])
    expect(decodeReport(text)).toBeNull()
})
