import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatUsd, maxUsdMicros, parseUsd, percentOf } from '../src/money.ts'

/** fast-check prints the seed of a failure; PURSER_TEST_SEED replays it. */
const seed = process.env['PURSER_TEST_SEED']
const runs = seed === undefined ? { numRuns: 2_000 } : { numRuns: 2_000, seed: Number(seed) }

const amounts = fc.bigInt({ min: 0n, max: maxUsdMicros })

describe('parseUsd, strings', () => {
  test.each<[string, bigint]>([
    ['0', 0n],
    ['0.0', 0n],
    ['250', 250_000_000n],
    ['250.00', 250_000_000n],
    ['0.000001', 1n],
    ['0.1', 100_000n],
    ['1.5', 1_500_000n],
    ['9007199254.740993', 9_007_199_254_740_993n],
    ['999999999999.999999', 999_999_999_999_999_999n],
    ['1000000000000', maxUsdMicros],
    ['1000000000000.000000', maxUsdMicros],
  ])('%s', (text, micros) => {
    expect(parseUsd(text)).toBe(micros)
  })

  test.each([
    '',
    ' ',
    ' 1',
    '1 ',
    '1\n',
    '+1',
    '-1',
    '-0',
    '.5',
    '5.',
    '00',
    '01',
    '00.5',
    '1.0000000',
    '1.0000001',
    '1e3',
    '1E3',
    '0x10',
    '1,000',
    '1_000',
    'NaN',
    'Infinity',
    '١',
    '１',
    '$5',
    '1000000000000.000001',
    '1000000000001',
    '9999999999999',
    '10000000000000',
  ])('refuses %j', (text) => {
    expect(parseUsd(text)).toBeNull()
  })
})

describe('parseUsd, numbers', () => {
  test.each<[number, bigint]>([
    [0, 0n],
    [250, 250_000_000n],
    [0.000001, 1n],
    [0.1, 100_000n],
    [50.000001, 50_000_001n],
    [999_999_999.999999, 999_999_999_999_999n],
  ])('%d', (value, micros) => {
    expect(parseUsd(value)).toBe(micros)
  })

  test.each([
    1e9,
    1e12,
    Number.MAX_SAFE_INTEGER,
    1e21,
    -1,
    -0,
    -0.5,
    0.1 + 0.2,
    0.0000001,
    1e-7,
    1.0000001,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.MIN_VALUE,
  ])('refuses %d', (value) => {
    expect(parseUsd(value)).toBeNull()
  })

  test('a number reads as its shortest decimal form does', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 2e9 }), (value) => {
        expect(parseUsd(value)).toBe(value < 1e9 && !Object.is(value, -0) ? parseUsd(String(value)) : null)
      }),
      runs,
    )
  })
})

describe('formatUsd', () => {
  test.each<[bigint, string]>([
    [0n, '0.00'],
    [1n, '0.000001'],
    [10n, '0.00001'],
    [100n, '0.0001'],
    [1_000n, '0.001'],
    [10_000n, '0.01'],
    [100_000n, '0.10'],
    [1_000_000n, '1.00'],
    [250_000_000n, '250.00'],
    [50_000_001n, '50.000001'],
    [9_007_199_254_740_993n, '9007199254.740993'],
    [maxUsdMicros, '1000000000000.00'],
    [maxUsdMicros * 1_000n + 120_000n, '1000000000000000.12'],
  ])('%d', (micros, text) => {
    expect(formatUsd(micros)).toBe(text)
  })

  test('refuses a negative amount', () => {
    expect(() => formatUsd(-1n)).toThrow(RangeError)
  })

  test('reads back as the same amount, past 2^53 too, in the shape of the protocol', () => {
    fc.assert(
      fc.property(amounts, (micros) => {
        const text = formatUsd(micros)
        expect(text).toMatch(/^(0|[1-9][0-9]*)\.[0-9]{2}([0-9]{0,3}[1-9])?$/)
        expect(parseUsd(text)).toBe(micros)
      }),
      runs,
    )
  })

  test('what is written in any accepted form is the same amount', () => {
    const whole = fc.bigInt({ min: 0n, max: 999_999_999_999n })
    const fraction = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(whole, fraction, (dollars, digits) => {
        const micros = parseUsd(`${dollars}.${digits.join('')}`)
        expect(micros).toBe(dollars * 1_000_000n + BigInt(Number(digits.join('').padEnd(6, '0'))))
        expect(parseUsd(formatUsd(micros!))).toBe(micros)
      }),
      runs,
    )
  })
})

describe('percentOf', () => {
  test.each<[bigint, bigint, number]>([
    [0n, 0n, 100],
    [5n, 0n, 100],
    [0n, 1n, 0],
    [1n, 3n, 33.33],
    [2n, 3n, 66.66],
    [99_999n, 100_000n, 99.99],
    [1n, 1n, 100],
    [3n, 2n, 150],
    [maxUsdMicros - 1n, maxUsdMicros, 99.99],
    [1n, maxUsdMicros, 0],
  ])('%d of %d', (used, limit, percent) => {
    expect(percentOf(used, limit)).toBe(percent)
  })

  test('is the largest hundredth not above the true ratio', () => {
    fc.assert(
      fc.property(amounts, fc.bigInt({ min: 1n, max: maxUsdMicros }), (used, limit) => {
        // A ratio above 2^53 hundredths of a percent has no exact double.
        fc.pre((used * 10_000n) / limit < 2n ** 53n)
        const hundredths = BigInt(Math.round(percentOf(used, limit) * 100))
        expect(hundredths * limit <= used * 10_000n).toBe(true)
        expect((hundredths + 1n) * limit > used * 10_000n).toBe(true)
      }),
      runs,
    )
  })
})
