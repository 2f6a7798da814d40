import { describe, expect, test } from 'vitest'
import { parseAnswer } from '../../src/client/answer.ts'
import { ProtocolError, PurserError } from '../../src/client/errors.ts'

describe('parseAnswer', () => {
  test('reads a result, null included', () => {
    expect(parseAnswer('{"jsonrpc":"2.0","id":7,"result":null}')).toEqual({
      id: 7,
      error: null,
      result: null,
    })
  })

  test('reads an error with what its type carries', () => {
    const data = {
      type: 'RateLimited',
      retryable: true,
      hint: 'wait',
      retryAfterMs: 1500,
      limit: 100,
      windowMs: 60_000,
    }
    const { id, error } = parseAnswer(
      JSON.stringify({ jsonrpc: '2.0', id: 3, error: { code: 1002, message: 'too many decryptions', data } }),
    )
    expect(id).toBe(3)
    expect(error).toBeInstanceOf(PurserError)
    expect(error).toMatchObject({
      name: 'PurserError',
      message: 'too many decryptions',
      type: 'RateLimited',
      code: 1002,
      retryable: true,
      retryAfterMs: 1500,
      hint: 'wait',
      data: { limit: 100 },
    })
  })

  test.each([
    [-32700, 'ParseError'],
    [-32600, 'InvalidRequest'],
    [-32601, 'MethodNotFound'],
    [-32602, 'InvalidParams'],
    [12345, 'InternalError'],
  ])('gives an error %i without data the type %s', (code, type) => {
    const { error } = parseAnswer(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code, message: 'm' } }))
    expect(error).toMatchObject({ type, code, retryable: false, retryAfterMs: null, hint: '' })
  })

  test.each([
    'not json, with sEcReT inside',
    '',
    '[]',
    '5',
    'null',
    '"text"',
    '{}',
    '{"jsonrpc":"1.0","id":1,"result":1}',
    '{"jsonrpc":"2.0","id":1}',
    '{"jsonrpc":"2.0","id":"1","result":1}',
    '{"jsonrpc":"2.0","id":1.5,"result":1}',
    '{"jsonrpc":"2.0","id":null,"result":1}',
    '{"jsonrpc":"2.0","result":1}',
    '{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":"m"}}',
    '{"jsonrpc":"2.0","id":1,"error":null}',
    '{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"m"}}',
    '{"jsonrpc":"2.0","id":1,"error":{"code":1}}',
    '[{"jsonrpc":"2.0","id":1,"result":1}]',
    '\u{feff}{"jsonrpc":"2.0","id":1,"result":1}',
  ])('refuses %s', (line) => {
    expect(() => parseAnswer(line)).toThrow(ProtocolError)
  })

  test('quotes nothing of what it could not read', () => {
    try {
      parseAnswer('{"apiSecret":"sEcReT",')
      expect.unreachable()
    } catch (error) {
      expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('sEcReT')
      expect((error as Error).cause).toBeUndefined()
    }
  })
})
