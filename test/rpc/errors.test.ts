import { expect, test } from 'vitest'
import { type ErrorType, errorTable, PurserError } from '../../src/errors.ts'
import { errorResponse } from '../../src/rpc/line.ts'

// Section 4 of the contract. A number once used is never given to something else, so they are written out here.

const codes: Record<ErrorType, number> = {
  ParseError: -32700,
  InvalidRequest: -32600,
  FrameTooLarge: -32600,
  MethodNotFound: -32601,
  InvalidParams: -32602,
  InternalError: -32603,
  Forbidden: 1001,
  RateLimited: 1002,
  Overloaded: 1003,
  Sealed: 1004,
  Frozen: 1005,
  WrongMasterKey: 1006,
  NotFound: 2001,
  Conflict: 2002,
  CredentialRevoked: 2003,
  CredentialExpired: 2004,
  DecryptionFailed: 2005,
  SpendLimitExceeded: 3001,
  ReservationClosed: 3002,
  SigningRefused: 4001,
  StorageUnavailable: 5001,
}
const retryable = [1002, 1003, 1004, 1005, 1006, 5001]

test('every type has the number of the contract, and there is no other', () => {
  expect(Object.fromEntries(Object.entries(errorTable).map(([type, { code }]) => [type, code]))).toEqual(
    codes,
  )
})

test('retryable is true for 1002 to 1006 and 5001', () => {
  for (const { code, retryable: again } of Object.values(errorTable))
    expect(again).toBe(retryable.includes(code))
})

test('messages and hints are short, in lower case, without a final period', () => {
  for (const { message, hint } of Object.values(errorTable)) {
    for (const text of [message, hint]) {
      expect(text).toMatch(/^[a-z]/)
      expect(text).not.toMatch(/[.!]$/)
      expect(text.length).toBeLessThan(100)
    }
  }
})

test.each(Object.keys(codes) as ErrorType[])('%s on the wire', (type) => {
  const response = errorResponse(7, new PurserError(type, { errorId: 'e', extra: 1 }))
  expect(response).toEqual({
    jsonrpc: '2.0',
    id: 7,
    error: {
      code: codes[type],
      message: errorTable[type].message,
      data: {
        type,
        retryable: retryable.includes(codes[type]),
        hint: errorTable[type].hint,
        errorId: 'e',
        // Of an internal error nothing goes out but its id.
        ...(type === 'InternalError' ? {} : { extra: 1 }),
      },
    },
  })
})

test('a cause is not told of', () => {
  const error = new PurserError('StorageUnavailable', {}, { cause: new Error('SQLITE_FULL at /secret/path') })
  expect(JSON.stringify(errorResponse(1, error))).not.toContain('SQLITE')
})

test('an answer without an id has the id null', () => {
  for (const id of [undefined, null])
    expect(errorResponse(id, new PurserError('ParseError'))).toHaveProperty('id', null)
})
