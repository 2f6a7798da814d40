import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { bar, percentColour, percentText } from '../../../src/cli/text/bar.ts'

const seed = Number(process.env['PURSER_TEST_SEED'] ?? Date.now() % 2 ** 31)

describe('bar', () => {
  test.each([
    [0, '[          ]'],
    [0.01, '[|         ]'],
    [50, '[|||||     ]'],
    [99.99, '[||||||||| ]'],
    [100, '[||||||||||]'],
    [2250, '[||||||||||]'],
  ])('%f', (percent, text) => {
    expect(bar(percent, 12)).toBe(text)
  })

  test('is as wide as asked for, full at 100 percent alone, and grows with the percentage', () => {
    const percents = fc.integer({ min: 0, max: 1_000_000 }).map((hundredths) => hundredths / 100)
    fc.assert(
      fc.property(percents, percents, fc.integer({ min: 3, max: 300 }), (one, two, columns) => {
        const marks = (percent: number): number => bar(percent, columns).split('|').length - 1
        expect(bar(one, columns)).toHaveLength(columns)
        // A bar of one cell has no room between empty and full.
        if (columns > 3) expect(marks(one) === columns - 2).toBe(one >= 100)
        expect(marks(one) > 0).toBe(one > 0)
        if (one <= two) expect(marks(one)).toBeLessThanOrEqual(marks(two))
      }),
      { seed, numRuns: 2000 },
    )
  })
})

test('percentages keep the two places the daemon gives', () => {
  expect(percentText(99.99)).toBe('99.99%')
  expect(percentText(1e20)).toBe('100000000000000000000.00%')
  expect([0, 79.99, 80, 94.99, 95, 500].map(percentColour)).toEqual([
    'green',
    'green',
    'yellow',
    'yellow',
    'red',
    'red',
  ])
})
