import { CliError, usageError } from '../cli-error.ts'
import type { EnvEntry } from './env-file.ts'

export type SecretField = 'apiKey' | 'apiSecret' | 'passphrase' | 'privateKey'
export const secretFields = ['apiKey', 'apiSecret', 'passphrase', 'privateKey'] as const

/**
 * Environment names that published bots and client examples use, by field: py-clob-client's examples (PK, CLOB_*),
 * Polymarket/agents (POLYGON_WALLET_PRIVATE_KEY), Nautilus (POLYMARKET_PK), polymarket-cli (POLYMARKET_PRIVATE_KEY) and
 * the .env.example files of many bots. Names that may mean any service (API_KEY, SECRET) are left out: --map takes them.
 */
export const botNames: Readonly<Record<SecretField, readonly string[]>> = {
  apiKey: ['POLY_API_KEY', 'POLYMARKET_API_KEY', 'CLOB_API_KEY', 'POLYMARKET_CLOB_API_KEY'],
  apiSecret: [
    'POLY_API_SECRET',
    'POLY_SECRET',
    'POLYMARKET_API_SECRET',
    'POLYMARKET_SECRET',
    'CLOB_SECRET',
    'CLOB_API_SECRET',
    'POLYMARKET_CLOB_SECRET',
    'POLYMARKET_CLOB_API_SECRET',
  ],
  passphrase: [
    'POLY_PASSPHRASE',
    'POLY_API_PASSPHRASE',
    'POLYMARKET_PASSPHRASE',
    'POLYMARKET_API_PASSPHRASE',
    'CLOB_PASS_PHRASE',
    'CLOB_PASSPHRASE',
    'CLOB_API_PASSPHRASE',
    'POLYMARKET_CLOB_PASSPHRASE',
    'POLYMARKET_CLOB_API_PASSPHRASE',
  ],
  privateKey: [
    'PRIVATE_KEY',
    'PK',
    'POLYMARKET_PRIVATE_KEY',
    'POLYMARKET_PK',
    'POLY_PRIVATE_KEY',
    'POLYMARKET_WALLET_PRIVATE_KEY',
    'POLYGON_WALLET_PRIVATE_KEY',
    'POLYGON_PRIVATE_KEY',
    'WALLET_PRIVATE_KEY',
  ],
}

/** Fields whose name in the bot's environment the user chose by `--map FIELD=NAME`. */
export type FieldMap = Readonly<Partial<Record<SecretField, string>>>

/** commander collector for `--map FIELD=NAME`. */
export function collectFieldMap(argument: string, previous: FieldMap = {}): FieldMap {
  const [field, name] = argument.split('=', 2)
  if (!isSecretField(field) || name === undefined || !/^[A-Za-z_][A-Za-z0-9_.-]*$/.test(name))
    throw usageError('--map takes FIELD=NAME', `FIELD is one of ${secretFields.join(', ')}`)
  return { ...previous, [field]: name }
}

function isSecretField(name: string | undefined): name is SecretField {
  return (secretFields as readonly (string | undefined)[]).includes(name)
}

const fieldByName: ReadonlyMap<string, SecretField> = new Map(
  secretFields.flatMap((field) => botNames[field].map((name) => [name, field] as const)),
)

/** The field that `name` stands for; null where it stands for none. A mapped field goes by its mapped name alone. */
export function fieldOf(name: string, map: FieldMap = {}): SecretField | null {
  for (const field of secretFields) if (map[field] === name) return field
  const field = isSecretField(name) ? name : fieldByName.get(name.toUpperCase())
  return field === undefined || map[field] !== undefined ? null : field
}

export type Secrets = Partial<Record<SecretField, string>>

export type TakenSecrets = {
  readonly secrets: Secrets
  readonly taken: readonly { readonly field: SecretField; readonly name: string }[]
  /** Names that stand for no field, in the order of the file. */
  readonly ignored: readonly string[]
  /** Those of `ignored` whose name and content say that they are secrets of something else. */
  readonly otherSecrets: readonly string[]
  /** Names that stand for a field but hold nothing. */
  readonly empty: readonly string[]
}

const secretLooking = /key|secret|pass|token|mnemonic|seed|(^|_)pk(_|$)/i
const reference = /^\$(\{[^}]*\}|[A-Za-z_][A-Za-z0-9_]*|\(.*\))$/

/** The same private key may be written with and without 0x and in either case. */
function comparable(field: SecretField, value: string): string {
  return field === 'privateKey' ? value.replace(/^0x/i, '').toLowerCase() : value
}

/**
 * Sorts the entries of an environment by field. Throws CliError `badInput` where two names give one field different
 * values, or a value is a reference (`$NAME`) that only a shell would follow. Error texts hold names, never values.
 */
export function takeSecrets(entries: readonly EnvEntry[], map: FieldMap = {}): TakenSecrets {
  const first = new Map<SecretField, EnvEntry>()
  const taken: { field: SecretField; name: string }[] = []
  const ignored = new Set<string>()
  const otherSecrets = new Set<string>()
  const empty = new Set<string>()
  for (const entry of entries) {
    const field = fieldOf(entry.name, map)
    if (field === null) {
      ignored.add(entry.name)
      if (entry.value !== '' && secretLooking.test(entry.name)) otherSecrets.add(entry.name)
      continue
    }
    if (entry.value === '') {
      empty.add(entry.name)
      continue
    }
    refuseReference(entry)
    const earlier = first.get(field)
    if (earlier === undefined) first.set(field, entry)
    else refuseDifference(field, earlier, entry)
    if (!taken.some((one) => one.name === entry.name)) taken.push({ field, name: entry.name })
  }
  const secrets: Secrets = {}
  for (const [field, entry] of first) secrets[field] = entry.value
  return { secrets, taken, ignored: [...ignored], otherSecrets: [...otherSecrets], empty: [...empty] }
}

function refuseReference(entry: EnvEntry): void {
  if (!reference.test(entry.value)) return
  throw new CliError(
    'badInput',
    `${entry.name} (line ${entry.line}) refers to another variable`,
    'write the value itself; purser expands nothing',
  )
}

function refuseDifference(field: SecretField, earlier: EnvEntry, entry: EnvEntry): void {
  if (comparable(field, earlier.value) === comparable(field, entry.value)) return
  throw new CliError(
    'badInput',
    `${earlier.name} (line ${earlier.line}) and ${entry.name} (line ${entry.line}) both stand for ${field} and differ`,
    earlier.name === entry.name
      ? 'keep one of the two lines'
      : `say which one counts: --map ${field}=${earlier.name}, or keep one of the two lines`,
  )
}
