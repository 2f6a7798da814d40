import { describe, expect, test } from 'vitest'
import { PurserError } from '../../src/client/errors.ts'
import { encodeRequest } from '../../src/client/request.ts'
import { isResendable } from '../../src/client/resend.ts'

describe('encodeRequest', () => {
  test('is one line of JSON-RPC 2.0; undefined stands for absent', () => {
    const line = encodeRequest(7, 'users.put', {
      userId: 'a\nb',
      email: undefined,
      limits: { dailyUsd: null },
    })
    expect(line.indexOf('\n')).toBe(line.length - 1)
    expect(JSON.parse(line)).toEqual({
      jsonrpc: '2.0',
      id: 7,
      method: 'users.put',
      params: { userId: 'a\nb', limits: { dailyUsd: null } },
    })
  })

  test.each([
    ['NaN', { dailySpendLimitUsd: Number.NaN }],
    ['Infinity', { limits: { dailyUsd: Number.POSITIVE_INFINITY } }],
    ['an invalid Date', { expiresAt: new Date('never') }],
    ['a bigint', { amountUsd: 5n }],
    ['NaN in a list', { list: [Number.NaN] }],
  ])('refuses %s, which JSON would make null or not carry', (_name, params) => {
    expect(() => encodeRequest(1, 'users.put', params)).toThrow(TypeError)
  })

  test('refuses params that are no object and params without an end', () => {
    const cyclic: Record<string, unknown> = {}
    cyclic['again'] = cyclic
    expect(() => encodeRequest(1, 'm', cyclic)).toThrow(TypeError)
    expect(() => encodeRequest(1, 'm', [] as unknown as Record<string, unknown>)).toThrow(TypeError)
    expect(() => encodeRequest(1, 'm', null as unknown as Record<string, unknown>)).toThrow(TypeError)
  })

  test('takes a line of 65,536 bytes and refuses one byte more, counted in bytes', () => {
    const bare = encodeRequest(1, 'm', { v: '' }).length - 1
    const fill = (bytes: number, character: string): string =>
      character.repeat((bytes - bare) / Buffer.byteLength(character))
    expect(Buffer.byteLength(encodeRequest(1, 'm', { v: fill(65_536, 'x') }))).toBe(65_537)
    try {
      encodeRequest(1, 'm', { v: `${fill(65_536, 'x')}x` })
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(PurserError)
      expect(error).toMatchObject({ type: 'FrameTooLarge', code: -32600, retryable: false })
    }
    expect(() => encodeRequest(1, 'm', { v: '€'.repeat(21_900) })).toThrow(/65536/)
  })
})

describe('isResendable', () => {
  test.each([
    ['system.ping', {}, true],
    ['credentials.get', { userId: 'a' }, true],
    ['audit.query', {}, true],
    ['credentials.retrieve', { userId: 'a' }, false],
    ['credentials.store', { userId: 'a' }, false],
    ['users.put', {}, false],
    ['backup.create', {}, false],
    ['session.hello', {}, false],
    ['spend.reserve', { idempotencyKey: 'k' }, true],
    ['sign.order', { intentId: 'i' }, true],
    ['spend.reserve', {}, false],
    ['spend.reserve', { idempotencyKey: undefined }, false],
    ['spend.check', { userId: 'a', amountUsd: '5' }, true],
    ['spend.record', { userId: 'a', amountUsd: '5' }, false],
    ['spend.record', { userId: 'a', amountUsd: '5', tradeId: 0 }, true],
    ['spend.capture', { reservationId: 'r1' }, true],
    ['spend.capture', { reservationId: 'r1', final: true }, true],
    ['spend.capture', { reservationId: 'r1', final: false }, false],
    ['spend.capture', { reservationId: 'r1', final: false, tradeId: 't' }, true],
    ['spend.void', { reservationId: 'r1' }, true],
    ['positions.close', { userId: 'a', tradeId: 't' }, false],
    ['positions.close', { userId: 'a', tradeId: 't', idempotencyKey: 'k' }, true],
    ['system.freeze', { reason: 'x' }, false],
    ['constructor', {}, false],
    ['not.known', {}, false],
  ])('%s %j: %s', (method, params, expected) => {
    expect(isResendable(method, params)).toBe(expected)
  })
})
