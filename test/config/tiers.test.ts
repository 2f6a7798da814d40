import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readTiers, type Tiers } from '../../src/config/tiers.ts'
import { readTomlFile } from '../../src/config/toml-file.ts'
import { exitCodes, StartError } from '../../src/errors.ts'

let directory: string
let path: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-tiers-'))
  path = join(directory, 'purser.toml')
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

function tiers(toml: string, env: Record<string, string> = {}): Tiers {
  writeFileSync(path, toml)
  return readTiers(readTomlFile(path, true), env)
}

function refusal(toml: string, env: Record<string, string> = {}): StartError {
  try {
    tiers(toml, env)
  } catch (error) {
    if (error instanceof StartError) return error
    throw error
  }
  throw new Error('accepted')
}

const dollars = (perTrade: number, daily: number, exposure: number) => ({
  perTradeMicros: BigInt(perTrade) * 1_000_000n,
  dailyMicros: BigInt(daily) * 1_000_000n,
  exposureMicros: BigInt(exposure) * 1_000_000n,
})

test('the defaults are those of the contract', () => {
  expect(tiers('')).toEqual({
    free: dollars(100, 500, 500),
    basic: dollars(500, 2_500, 2_500),
    pro: dollars(2_000, 10_000, 10_000),
    premium: dollars(10_000, 50_000, 100_000),
  })
})

test('a name nobody configured is undefined, whatever Object.prototype has', () => {
  for (const name of ['constructor', 'toString', '__proto__', 'gold']) expect(tiers('')[name]).toBeUndefined()
})

test('tiers are frozen', () => {
  const frozen = tiers('')
  expect(Object.isFrozen(frozen) && Object.isFrozen(frozen['free'])).toBe(true)
})

describe('the file', () => {
  test('changes a part of a default tier', () => {
    expect(tiers('[tiers.free]\ndaily = "0.000001"')['free']).toEqual({
      ...dollars(100, 0, 500),
      dailyMicros: 1n,
    })
  })

  test('adds a tier, with strings, integers, fractions and zero', () => {
    const file = 'tiers.Market-Maker = { per_trade = "1000000000000", daily = 12.5, exposure = 0 }'
    expect(tiers(file)['Market-Maker']).toEqual({
      perTradeMicros: 10n ** 18n,
      dailyMicros: 12_500_000n,
      exposureMicros: 0n,
    })
  })

  test.each<[string, string, string]>([
    [
      'a new tier without all three',
      '\n[tiers.vip]\ndaily = 1',
      'tiers.vip (line 2 of PATH) lacks per_trade and exposure',
    ],
    ['an empty new tier', '[tiers.vip]', 'tiers.vip (line 1 of PATH) lacks per_trade and daily and exposure'],
    ['an unknown key', '[tiers.free]\nweekly = 5', 'unknown key tiers.free.weekly (line 2 of PATH)'],
    ['a key below a limit', 'tiers.free.daily.x = 5', 'unknown key tiers.free.daily.x (line 1 of PATH)'],
    [
      'a tier that is no table',
      '[tiers]\nfree = 5',
      'bad value for tiers.free (line 2 of PATH): must be a table',
    ],
    ['tiers that are no table', 'tiers = 5', 'bad value for tiers (line 1 of PATH): must be a table'],
    ['tiers that are an array', '[[tiers]]', 'bad value for tiers (line 1 of PATH): must be a table'],
    [
      'a bad name',
      '[tiers."a b"]\ndaily = 1',
      'bad value for tiers."a b".daily (line 2 of PATH): the name of a tier',
    ],
    ['a name from Object.prototype', '[tiers.__proto__]', 'the name of a tier'],
    [
      'a negative amount',
      'tiers.free.daily = -1',
      'bad value for tiers.free.daily (line 1 of PATH): must be dollars',
    ],
    ['seven decimals', 'tiers.free.daily = "1.0000001"', 'must be dollars'],
    ['a number that is too large', 'tiers.free.daily = 1000000000', 'must be dollars'],
    ['an integer beyond 2^53', 'tiers.free.daily = 9223372036854775807', 'must be dollars'],
    ['infinity', 'tiers.free.daily = inf', 'must be dollars'],
    ['a boolean', 'tiers.free.daily = true', 'must be dollars'],
    ['a date', 'tiers.free.daily = 2026-01-01', 'must be dollars'],
    ['a list', 'tiers.free.daily = [1]', 'must be dollars'],
    ['an empty table', 'tiers.free.daily = {}', 'must be dollars'],
  ])('is refused for %s', (_, toml, message) => {
    const error = refusal(toml)
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toContain(message.replace('PATH', path))
  })

  test('is refused for more than 100 tiers', () => {
    const lines = Array.from({ length: 97 }, (_, i) => `t${i} = { per_trade = 1, daily = 1, exposure = 1 }`)
    expect(Object.keys(tiers(['[tiers]', ...lines.slice(1)].join('\n')))).toHaveLength(100)
    expect(refusal(['[tiers]', ...lines].join('\n')).message).toBe('there are 101 tiers')
  })
})

describe('the environment', () => {
  test('beats the file, and completes a tier of it', () => {
    const file = '[tiers.vip]\nper_trade = 1\ndaily = 2'
    expect(tiers(file, { PURSER_TIERS_VIP_DAILY: '7', PURSER_TIERS_VIP_EXPOSURE: '9' })['vip']).toEqual(
      dollars(1, 7, 9),
    )
  })

  test('adds a tier in small letters', () => {
    const env = {
      PURSER_TIERS_BIG_SPENDER_PER_TRADE: '1',
      PURSER_TIERS_BIG_SPENDER_DAILY: '2',
      PURSER_TIERS_BIG_SPENDER_EXPOSURE: '3',
    }
    expect(tiers('', env)['big_spender']).toEqual(dollars(1, 2, 3))
  })

  test('finds a tier of the file by its name in capitals', () => {
    const file = 'tiers.Market-Maker = { per_trade = 1, daily = 1, exposure = 1 }'
    expect(tiers(file, { PURSER_TIERS_MARKET_MAKER_DAILY: '5' })['Market-Maker']).toEqual(dollars(1, 5, 1))
  })

  test('is refused where two tiers fit', () => {
    const limits = '{ per_trade = 1, daily = 1, exposure = 1 }'
    const error = refusal(`[tiers]\na-b = ${limits}\na_b = ${limits}`, { PURSER_TIERS_A_B_DAILY: '5' })
    expect(error.message).toBe('PURSER_TIERS_A_B_DAILY fits the tiers a-b and a_b')
  })

  test.each(['', '-1', '1e3', '1.0000001', '1000000000001', ' 5'])('is refused for %j', (value) => {
    const error = refusal('', { PURSER_TIERS_FREE_PER_TRADE: value })
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toContain('bad value for PURSER_TIERS_FREE_PER_TRADE: must be dollars')
  })

  test('is refused for a new tier without all three', () => {
    expect(refusal('', { PURSER_TIERS_VIP_DAILY: '5' }).message).toBe(
      'tiers.vip lacks per_trade and exposure',
    )
  })
})
