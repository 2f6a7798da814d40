import { dirname, join } from 'node:path'
import type { Flags } from './config/arguments.ts'
import {
  defaultDataDirectory,
  defaultSocketPath,
  type Environment,
  socketPathBytesMax,
} from './config/directories.ts'
import { type Reading, type Setting, settings, startSettings } from './config/settings.ts'
import { defaultTiersText, isTierVariable, readTiers, type Tiers } from './config/tiers.ts'
import { printableKey, readTomlFile, type TomlFile } from './config/toml-file.ts'
import { StartError } from './errors.ts'
import type { LogLevel } from './log.ts'

export { type Arguments, type Flags, readArguments } from './config/arguments.ts'
export { defaultDataDirectory, defaultSocketPath, type Environment } from './config/directories.ts'
export type { TierLimits, Tiers } from './config/tiers.ts'

/** Everything the operator decided, checked and frozen. Paths are absolute; the master key is not in here. */
export type Config = {
  readonly dataDir: string
  /** The settings file that was read, or null where there is none. */
  readonly configFile: string | null
  readonly sealed: boolean
  readonly socket: { readonly path: string; readonly adminPath: string | null; readonly mode: number }
  readonly key: { readonly file: string | null; readonly onFailure: 'exit' | 'seal' }
  readonly log: { readonly level: LogLevel }
  readonly cache: { readonly ttlSeconds: number; readonly maxEntries: number }
  readonly decrypt: { readonly limit: number; readonly windowSeconds: number }
  readonly credentials: {
    readonly privateKeyPolicy: 'exportable' | 'sign-only'
    readonly maxPerUser: number
  }
  /** `path` is the database; `reserveMb` is in MiB, 0 turns the reserve off. */
  readonly store: { readonly path: string; readonly reserveMb: number }
  readonly kdf: { readonly memoryKib: number; readonly iterations: number }
  readonly rpc: { readonly maxDerivationsQueued: number }
  readonly sign: { readonly feeHeadroomBps: number }
  readonly tiers: Tiers
  /** What the operator should read in the log: unknown variables, a settings file others can change. */
  readonly warnings: readonly string[]
}

/** `flags` come from readArguments; `cwd` is what relative paths in flags and variables start from. */
export type ConfigInput = { readonly flags: Flags; readonly env: Environment; readonly cwd?: string }

type Source = Reading & {
  readonly get: (setting: Setting<unknown>) => unknown
  /** Names the place for a message: the flag, the variable, or the key and its line. */
  readonly where: (setting: Setting<unknown>) => string
}

type Picked<T> = { readonly value: T; readonly where: () => string }

function flagSource(flags: Flags, directory: string): Source {
  return {
    typed: false,
    directory,
    get: ({ flag }) => (flag === null ? undefined : flags[flag]),
    where: ({ flag }) => `--${flag}`,
  }
}

function environmentSource(env: Environment, directory: string): Source {
  return {
    typed: false,
    directory,
    get: ({ variable }) => env[variable],
    where: ({ variable }) => variable,
  }
}

function fileSource(file: TomlFile): Source {
  const values = new Map(file.leaves.map((leaf) => [printableKey(leaf.path), leaf.value]))
  return {
    typed: true,
    directory: dirname(file.path),
    get: ({ key }) => (key === null ? undefined : values.get(key)),
    where: ({ key }) => `${key} (line ${file.lineOf(key?.split('.') ?? [])} of ${file.path})`,
  }
}

/** The value of the last of `sources` that has one. A bad value is refused even where a later source overrules it. */
function pick<T>(setting: Setting<T>, sources: readonly Source[]): Picked<T> {
  let picked: Picked<T> = { value: setting.fallback, where: () => 'the default' }
  for (const source of sources) {
    const given = source.get(setting)
    if (given === undefined) continue
    const value = setting.read(given, source)
    // Not called here: it parses the file again to find the line.
    const where = () => source.where(setting)
    if (value === undefined) {
      throw new StartError(
        'config',
        `bad value for ${where()}: must be ${setting.must}`,
        `correct it or leave it out (default: ${setting.fallbackText})`,
      )
    }
    picked = { value, where }
  }
  return picked
}

function refuseUnknownKeys(file: TomlFile): void {
  const keys = Object.values(settings).flatMap(({ key }) => (key === null ? [] : [key]))
  for (const { path, value } of file.leaves) {
    const key = printableKey(path)
    if (path[0] === 'tiers' || keys.includes(key)) continue
    const where = `${key} (line ${file.lineOf(path)} of ${file.path})`
    if (!keys.some((known) => known.startsWith(`${key}.`))) {
      throw new StartError(
        'config',
        `unknown key ${where}`,
        'correct or remove it; the README lists every key',
      )
    }
    // An empty table such as `[cache]` says nothing and is fine.
    if (typeof value !== 'object' || Array.isArray(value) || value instanceof Date) {
      throw new StartError('config', `bad value for ${where}: must be a table`, `write it as [${key}]`)
    }
  }
}

/** Variables that others read: the launchers and the tests. */
const foreignVariable = /^PURSER_(JITLESS$|TEST_)/

/** More would drown the log; who has that many has one mistake. */
const variableWarningsMax = 20

function warnOfUnknownVariables(env: Environment): string[] {
  const all = [...Object.values(startSettings), ...Object.values(settings)]
  const known = new Set(all.map(({ variable }) => variable))
  const unknown = Object.keys(env).filter(
    (name) =>
      name.startsWith('PURSER_') && !known.has(name) && !foreignVariable.test(name) && !isTierVariable(name),
  )
  return unknown.slice(0, variableWarningsMax).map((name) => {
    // A flag's key has the flag's variable, which is not what its name suggests.
    const meant = all.find(
      ({ key }) => key !== null && `PURSER_${key.toUpperCase().replaceAll('.', '_')}` === name,
    )
    return meant === undefined
      ? `unknown variable ${name} is ignored`
      : `unknown variable ${name} is ignored: ${meant.key} is set by ${meant.variable}`
  })
}

function checkSocketPath({ value, where }: Picked<string>, what: string): string {
  const bytes = Buffer.byteLength(value)
  if (bytes <= socketPathBytesMax) return value
  throw new StartError(
    'config',
    `the ${what} path from ${where()} is too long: ${bytes} bytes, at most ${socketPathBytesMax}`,
    'give a shorter one',
  )
}

function readSockets(
  path: Picked<string | null>,
  adminPath: Picked<string | null>,
  env: Environment,
  dataDir: string,
): { path: string; adminPath: string | null } {
  const socket = checkSocketPath(
    { value: path.value ?? defaultSocketPath(env, dataDir), where: path.where },
    'socket',
  )
  if (adminPath.value === null) return { path: socket, adminPath: null }
  const admin = checkSocketPath({ value: adminPath.value, where: adminPath.where }, 'admin socket')
  if (admin !== socket) return { path: socket, adminPath: admin }
  throw new StartError(
    'config',
    `the admin socket path from ${adminPath.where()} is the socket itself`,
    'give it a path in a directory of its own',
  )
}

/**
 * The configuration: flag beats variable beats file beats default. Throws StartError with exit 78 for a bad value or
 * unknown key, naming key and line, variable or flag, never the value.
 */
export function loadConfig({ flags, env, cwd = process.cwd() }: ConfigInput): Config {
  const outer = [environmentSource(env, cwd), flagSource(flags, cwd)]
  const dataDir = pick(startSettings.dataDir, outer).value ?? defaultDataDirectory(env)
  const named = pick(startSettings.configFile, outer).value
  const file = readTomlFile(named ?? join(dataDir, 'purser.toml'), named !== null)
  refuseUnknownKeys(file)
  const sources = [fileSource(file), ...outer]
  const read = <T>(setting: Setting<T>): T => pick(setting, sources).value

  const sockets = readSockets(
    pick(settings.socketPath, sources),
    pick(settings.socketAdminPath, sources),
    env,
    dataDir,
  )
  const config: Config = Object.freeze({
    dataDir,
    configFile: file.present ? file.path : null,
    sealed: read(startSettings.sealed),
    socket: Object.freeze({ ...sockets, mode: read(settings.socketMode) }),
    key: Object.freeze({ file: read(settings.keyFile), onFailure: read(settings.keyOnFailure) }),
    log: Object.freeze({ level: read(settings.logLevel) }),
    cache: Object.freeze({
      ttlSeconds: read(settings.cacheTtlSeconds),
      maxEntries: read(settings.cacheMaxEntries),
    }),
    decrypt: Object.freeze({
      limit: read(settings.decryptLimit),
      windowSeconds: read(settings.decryptWindowSeconds),
    }),
    credentials: Object.freeze({
      privateKeyPolicy: read(settings.credentialsPrivateKeyPolicy),
      maxPerUser: read(settings.credentialsMaxPerUser),
    }),
    store: Object.freeze({ path: join(dataDir, 'purser.db'), reserveMb: read(settings.storeReserveMb) }),
    kdf: Object.freeze({ memoryKib: read(settings.kdfMemoryKib), iterations: read(settings.kdfIterations) }),
    rpc: Object.freeze({ maxDerivationsQueued: read(settings.rpcMaxDerivationsQueued) }),
    sign: Object.freeze({ feeHeadroomBps: read(settings.signFeeHeadroomBps) }),
    tiers: readTiers(file, env),
    warnings: Object.freeze([
      ...(file.warning === null ? [] : [file.warning]),
      ...warnOfUnknownVariables(env),
    ]),
  })
  refuseCostlyDerivation(config)
  return config
}

/** KiB times passes: 256 MiB and 4 passes take most of a second. The vault opens nothing that costs more (kdfBounds). */
const derivationWorkMax = 1_048_576

function refuseCostlyDerivation({ kdf }: Config): void {
  if (kdf.memoryKib * kdf.iterations <= derivationWorkMax) return
  throw new StartError(
    'config',
    `kdf.memory_kib times kdf.iterations is above ${derivationWorkMax}: one derivation would take over a second`,
    'lower one of them',
  )
}

/** One row of the README's table of settings; a test holds the two against each other. */
export type SettingDescription = {
  readonly key: string | null
  readonly flag: string | null
  readonly variable: string
  readonly fallback: string
  readonly meaning: string
}

/** Every setting there is, in the order of the README. */
export function describeSettings(): SettingDescription[] {
  const rows = [...Object.values(startSettings), ...Object.values(settings)].map(
    ({ key, flag, variable, fallbackText, meaning }) => ({
      key,
      flag: flag === null ? null : `--${flag}`,
      variable,
      fallback: fallbackText,
      meaning,
    }),
  )
  const tiers = {
    key: 'tiers.<name>.per_trade, .daily, .exposure',
    flag: null,
    variable: 'PURSER_TIERS_<NAME>_PER_TRADE, _DAILY, _EXPOSURE',
    fallback: defaultTiersText(),
    meaning: 'limits of a tier in dollars; a new tier needs all three',
  }
  return [...rows, tiers]
}
