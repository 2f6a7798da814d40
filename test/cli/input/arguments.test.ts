import { describe, expect, test } from 'vitest'
import {
  orNull,
  parseCredentialId,
  parseDurationMs,
  parseInteger,
  parseSince,
} from '../../../src/cli/input/arguments.ts'

describe('parseDurationMs', () => {
  test.each([
    ['30', 30_000],
    ['30s', 30_000],
    ['500ms', 500],
    ['1.5s', 1500],
    ['5m', 300_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
  ])('%s', (argument, expectedMs) => {
    expect(parseDurationMs(argument, '--timeout')).toBe(expectedMs)
  })

  test.each(['', '0', '-1', '1w', 'abc', '1e3', '0x10', ' 5', '1.2.3', '9999999999', '25d'])(
    'refuses %j',
    (argument) => {
      expect(() => parseDurationMs(argument, '--timeout')).toThrow('--timeout')
    },
  )
})

test('parseInteger holds the bounds', () => {
  expect(parseInteger('0', '--n', 0, 5)).toBe(0)
  expect(parseInteger('5', '--n', 0, 5)).toBe(5)
  for (const argument of ['6', '-1', '1.5', '', 'x', '1e1', '0x1'])
    expect(() => parseInteger(argument, '--n', 0, 5)).toThrow('--n takes a whole number from 0 to 5')
})

test('parseCredentialId takes positive safe integers', () => {
  expect(parseCredentialId('9007199254740991')).toBe(9_007_199_254_740_991)
  for (const argument of ['0', '9007199254740992', 'abc']) expect(() => parseCredentialId(argument)).toThrow()
})

test('parseSince turns an age into a time and leaves times alone', () => {
  const nowMs = Date.UTC(2026, 10, 23, 8)
  expect(parseSince('24h', nowMs)).toBe('2026-11-22T08:00:00.000Z')
  expect(parseSince('2026-11-01T00:00:00Z', nowMs)).toBe('2026-11-01T00:00:00Z')
  expect(parseSince('365d', nowMs)).toBe('2025-11-23T08:00:00.000Z')
  expect(parseSince('yesterday', nowMs)).toBe('yesterday')
  expect(() => parseSince('999999999d', nowMs)).toThrow('--since and --until')
})

test('orNull clears by none', () => {
  expect(orNull('none')).toBeNull()
  expect(orNull('500')).toBe('500')
})
