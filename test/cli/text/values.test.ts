import { expect, test } from 'vitest'
import { flatten, formatPairs, shown } from '../../../src/cli/text/values.ts'

test('shown says what people read', () => {
  expect(shown(null)).toBe('-')
  expect(shown(undefined)).toBe('-')
  expect(shown(true)).toBe('yes')
  expect(shown(0)).toBe('0')
  expect(shown('2026-11-23T08:00:00.123Z')).toBe('2026-11-23T08:00:00Z')
  expect(shown('at 2026-11-23T08:00:00.123Z')).toBe('at 2026-11-23T08:00:00.123Z')
})

test('flatten names nested members by their path', () => {
  expect(
    flatten({ a: 1, limits: { dailyUsd: '500.00', frozen: null }, list: ['x', 2], none: [], deep: {} }),
  ).toEqual([
    ['a', '1'],
    ['limits.dailyUsd', '500.00'],
    ['limits.frozen', '-'],
    ['list', 'x, 2'],
    ['none', '-'],
    ['deep', '-'],
  ])
})

test('flatten walks a bounded depth', () => {
  let deep: unknown = 'end'
  for (let level = 0; level < 1000; level++) deep = { in: deep }
  expect(flatten(deep)).toHaveLength(1)
})

test('formatPairs aligns values and escapes both sides', () => {
  expect(
    formatPairs([
      ['a', 'x\ny'],
      ['lo\x1bng', '1'],
    ]),
  ).toBe('a         x\\x0ay\nlo\\x1bng  1\n')
})
