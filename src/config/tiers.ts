import { StartError } from '../errors.ts'
import { formatUsd, parseUsd } from '../money.ts'
import type { Environment } from './directories.ts'
import { printableKey, type TomlFile } from './toml-file.ts'

/** The limits a user of this tier has, in micro-dollars; 0 allows nothing. */
export type TierLimits = {
  readonly perTradeMicros: bigint
  readonly dailyMicros: bigint
  readonly exposureMicros: bigint
}

/** Tiers by name. It has no prototype, so a name nobody configured is undefined whatever it is. */
export type Tiers = Readonly<Record<string, TierLimits>>

type TierKey = 'per_trade' | 'daily' | 'exposure'
type PartialTier = Partial<Record<TierKey, bigint>>

const tierKeys: readonly TierKey[] = ['per_trade', 'daily', 'exposure']

/** More tiers than any price list has; the bound keeps the environment from growing the table. */
const tiersMax = 100

const tierMust = 'must be dollars such as "250" or "0.50", 0 to 1000000000000, at most 6 decimals'

function usd(dollars: number): bigint {
  return BigInt(dollars) * 1_000_000n
}

function defaultTiers(): Map<string, PartialTier> {
  return new Map([
    ['free', { per_trade: usd(100), daily: usd(500), exposure: usd(500) }],
    ['basic', { per_trade: usd(500), daily: usd(2_500), exposure: usd(2_500) }],
    ['pro', { per_trade: usd(2_000), daily: usd(10_000), exposure: usd(10_000) }],
    ['premium', { per_trade: usd(10_000), daily: usd(50_000), exposure: usd(100_000) }],
  ])
}

/** The default tiers as one line of the README: name per trade / daily / exposure. */
export function defaultTiersText(): string {
  const short = (micros: bigint | undefined) => formatUsd(micros ?? 0n).replace('.00', '')
  return [...defaultTiers()]
    .map(([name, tier]) => `${name} ${tierKeys.map((key) => short(tier[key])).join(' / ')}`)
    .join(', ')
}

/** True for a variable that names a tier's limit: `PURSER_TIERS_<NAME>_PER_TRADE`, `_DAILY` or `_EXPOSURE`. */
export function isTierVariable(variable: string): boolean {
  return parseTierVariable(variable) !== null
}

function parseTierVariable(variable: string): { name: string; key: TierKey } | null {
  const match = /^PURSER_TIERS_([A-Z0-9][A-Z0-9_]{0,63})_(PER_TRADE|DAILY|EXPOSURE)$/.exec(variable)
  return match === null ? null : { name: match[1]!, key: match[2]!.toLowerCase() as TierKey }
}

/** The tier a variable means: the one whose name reads so in capitals, else a new one in small letters. */
function tierOfVariable(tiers: ReadonlyMap<string, PartialTier>, variable: string, name: string): string {
  const known = [...tiers.keys()].filter((tier) => tier.toUpperCase().replaceAll('-', '_') === name)
  if (known.length > 1) {
    throw new StartError(
      'config',
      `${variable} fits the tiers ${known.join(' and ')}`,
      'set it in the file instead',
    )
  }
  return known[0] ?? name.toLowerCase()
}

function refuseValue(where: string, must: string): StartError {
  return new StartError('config', `bad value for ${where}: ${must}`, 'correct it or leave it out')
}

function set(tiers: Map<string, PartialTier>, name: string, key: TierKey, micros: bigint): void {
  tiers.set(name, { ...tiers.get(name), [key]: micros })
}

function addFromFile(tiers: Map<string, PartialTier>, file: TomlFile): void {
  for (const { path, value } of file.leaves.filter((leaf) => leaf.path[0] === 'tiers')) {
    const [, name, key] = path
    const where = `${printableKey(path)} (line ${file.lineOf(path)} of ${file.path})`
    const emptyTable =
      typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
    if (path.length < 3) {
      if (!emptyTable) throw refuseValue(where, 'must be a table of per_trade, daily and exposure')
      if (name !== undefined && !tiers.has(name)) tiers.set(name, {})
    } else if (path.length > 3 || !tierKeys.some((known) => known === key)) {
      throw new StartError('config', `unknown key ${where}`, `a tier has the keys ${tierKeys.join(', ')}`)
    } else {
      const micros = typeof value === 'string' || typeof value === 'number' ? parseUsd(value) : null
      if (micros === null) throw refuseValue(where, tierMust)
      set(tiers, name!, key as TierKey, micros)
    }
    if (name !== undefined && !/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(name)) {
      throw refuseValue(
        where,
        'the name of a tier must be 1 to 64 of A-Z a-z 0-9 _ - and begin with none of _ -',
      )
    }
  }
}

function addFromEnvironment(tiers: Map<string, PartialTier>, env: Environment): void {
  for (const variable of Object.keys(env).sort()) {
    const parsed = parseTierVariable(variable)
    if (parsed === null) continue
    const micros = parseUsd(env[variable] ?? '')
    if (micros === null) throw refuseValue(variable, tierMust)
    set(tiers, tierOfVariable(tiers, variable, parsed.name), parsed.key, micros)
  }
}

/**
 * The default tiers, changed and added to by the file and then by the environment. Throws StartError (exit 78) for a
 * bad name, key or amount, and for a new tier that lacks one of its three limits: no limit is ever guessed.
 */
export function readTiers(file: TomlFile, env: Environment): Tiers {
  const partial = defaultTiers()
  addFromFile(partial, file)
  addFromEnvironment(partial, env)
  if (partial.size > tiersMax) {
    throw new StartError('config', `there are ${partial.size} tiers`, `leave at most ${tiersMax}`)
  }
  const tiers: Record<string, TierLimits> = Object.create(null)
  for (const [name, { per_trade, daily, exposure }] of partial) {
    if (per_trade === undefined || daily === undefined || exposure === undefined) {
      const lacking = tierKeys.filter((key) => partial.get(name)?.[key] === undefined)
      const inFile = file.leaves.some(({ path }) => path[0] === 'tiers' && path[1] === name)
      const where = inFile ? ` (line ${file.lineOf(['tiers', name])} of ${file.path})` : ''
      throw new StartError(
        'config',
        `tiers.${name}${where} lacks ${lacking.join(' and ')}`,
        'a new tier needs per_trade, daily and exposure',
      )
    }
    tiers[name] = Object.freeze({ perTradeMicros: per_trade, dailyMicros: daily, exposureMicros: exposure })
  }
  return Object.freeze(tiers)
}
