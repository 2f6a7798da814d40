import { resolve } from 'node:path'
import type { LogLevel } from '../log.ts'
import type { FlagName } from './arguments.ts'

/** How a source hands its values over: a file has types, flags and variables have text only. */
export type Reading = {
  readonly typed: boolean
  /** What a relative path starts from: the file's own directory, else the working directory. */
  readonly directory: string
}

/** One setting: where it may come from, what it may be, and what it is when nobody says. */
export type Setting<T> = {
  /** Its key in the file, null where only a flag and a variable set it. */
  readonly key: string | null
  readonly flag: FlagName | null
  readonly variable: string
  readonly fallback: T
  /** The default as the README shows it. */
  readonly fallbackText: string
  readonly meaning: string
  /** Completes "must be ...". */
  readonly must: string
  /** The value, or undefined where it is refused. */
  readonly read: (value: unknown, reading: Reading) => T | undefined
}

type Naming = { key: string | null; flag?: FlagName; variable?: string; meaning: string }

/** The variable of a key a.b_c is PURSER_A_B_C, unless its flag has one of its own. */
function naming({ key, flag, variable, meaning }: Naming) {
  const derived = variable ?? `PURSER_${(key ?? '').toUpperCase().replaceAll('.', '_')}`
  return { key, flag: flag ?? null, variable: derived, meaning }
}

function integer(named: Naming, fallback: number, min: number, max: number): Setting<number> {
  return {
    ...naming(named),
    fallback,
    fallbackText: String(fallback),
    must: `a whole number from ${min} to ${max}`,
    read: (value, { typed }) => {
      const plain = typeof value === 'string' && !typed && /^(0|[1-9][0-9]{0,14})$/.test(value)
      const number = plain ? Number(value) : value
      return Number.isSafeInteger(number) && (number as number) >= min && (number as number) <= max
        ? (number as number)
        : undefined
    },
  }
}

function choice<const T extends string>(named: Naming, fallback: T, choices: readonly T[]): Setting<T> {
  return {
    ...naming(named),
    fallback,
    fallbackText: JSON.stringify(fallback),
    must: `one of ${choices.map((name) => JSON.stringify(name)).join(', ')}`,
    read: (value) => choices.find((name) => name === value),
  }
}

function path(named: Naming, fallbackText: string): Setting<string | null> {
  return {
    ...naming(named),
    fallback: null,
    fallbackText,
    must: 'a path of 1 to 4095 bytes without control characters',
    read: (value, { directory }) => {
      if (typeof value !== 'string' || value === '' || /\p{Cc}/u.test(value)) return undefined
      const absolute = resolve(directory, value)
      return Buffer.byteLength(absolute) <= 4095 ? absolute : undefined
    },
  }
}

const truths: Readonly<Record<string, boolean>> = {
  1: true,
  true: true,
  yes: true,
  0: false,
  false: false,
  no: false,
}

function flagOnly(named: Naming): Setting<boolean> {
  return {
    ...naming(named),
    fallback: false,
    fallbackText: 'no',
    must: 'one of 1, true, yes, 0, false, no',
    read: (value) => (typeof value === 'string' && Object.hasOwn(truths, value) ? truths[value] : undefined),
  }
}

/** A socket is used by reading and writing; other bits mean nothing there, and the daemon's own user needs both. */
function socketMode(named: Naming, fallback: number): Setting<number> {
  return {
    ...naming(named),
    fallback,
    fallbackText: `"0${fallback.toString(8)}"`,
    must: 'an octal string such as "0600", "0660" or "0666"',
    read: (value) =>
      typeof value === 'string' && /^0?6[0246]{2}$/.test(value) ? Number.parseInt(value, 8) : undefined,
  }
}

/** Where the store and the settings file lie; known before the file is read, so neither has a key in it. */
export const startSettings = {
  dataDir: path(
    {
      key: null,
      flag: 'data-dir',
      variable: 'PURSER_DATA_DIR',
      meaning: 'directory of the store, purser.db',
    },
    "systemd's STATE_DIRECTORY, else ~/.local/share/purser",
  ),
  configFile: path(
    { key: null, flag: 'config', variable: 'PURSER_CONFIG', meaning: 'the settings file, TOML' },
    'DIR/purser.toml, which may be absent',
  ),
  sealed: flagOnly({
    key: null,
    flag: 'sealed',
    variable: 'PURSER_SEALED',
    meaning: 'read no master key at the start, wait for system.unseal',
  }),
} as const

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const satisfies LogLevel[]

/** Every setting with a key of its own but the tiers, which have names of the operator's choosing. */
export const settings = {
  socketPath: path(
    { key: 'socket.path', flag: 'socket', variable: 'PURSER_SOCKET', meaning: 'the socket bots connect to' },
    "purser.sock in systemd's RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/purser, else DIR",
  ),
  socketAdminPath: path(
    {
      key: 'socket.admin_path',
      flag: 'admin-socket',
      variable: 'PURSER_ADMIN_SOCKET',
      meaning:
        'a second socket, in a directory of its own (mode 0700); where set, admins are admins only on it',
    },
    'none',
  ),
  socketMode: socketMode({ key: 'socket.mode', meaning: 'file mode of the socket' }, 0o600),
  keyFile: path(
    {
      key: 'key.file',
      flag: 'master-key-file',
      variable: 'PURSER_MASTER_KEY_FILE',
      meaning: 'a file with the master key: 32 bytes as base64, base64url or hex',
    },
    'none: the next key source counts',
  ),
  keyOnFailure: choice(
    { key: 'key.on_failure', meaning: 'what a start does when the key source fails' },
    'exit',
    ['exit', 'seal'],
  ),
  logLevel: choice(
    {
      key: 'log.level',
      flag: 'log-level',
      variable: 'PURSER_LOG_LEVEL',
      meaning: 'least severe level that is logged',
    },
    'info',
    logLevels,
  ),
  // A day at most: longer is no cache but a second home for opened credentials.
  cacheTtlSeconds: integer(
    { key: 'cache.ttl_seconds', meaning: 'how long an opened credential stays in memory; 0 keeps none' },
    300,
    0,
    86_400,
  ),
  // Each lies in a locked page of its own (4 KiB), so the bound is 400 MB of locked memory.
  cacheMaxEntries: integer(
    { key: 'cache.max_entries', meaning: 'opened credentials kept in memory at most' },
    1_000,
    1,
    100_000,
  ),
  decryptLimit: integer(
    { key: 'decrypt.limit', meaning: 'decryptions a user may cause per window' },
    100,
    1,
    100_000,
  ),
  decryptWindowSeconds: integer({ key: 'decrypt.window_seconds', meaning: 'that window' }, 60, 1, 86_400),
  credentialsPrivateKeyPolicy: choice(
    {
      key: 'credentials.private_key_policy',
      meaning: 'policy of a new credential that names none; sign-only keys never leave',
    },
    'exportable',
    ['exportable', 'sign-only'],
  ),
  credentialsMaxPerUser: integer(
    { key: 'credentials.max_per_user', meaning: 'unrevoked credentials a user may have' },
    1_000,
    1,
    1_000_000,
  ),
  // 1 TiB at most; more is a mistyped unit.
  storeReserveMb: integer(
    {
      key: 'store.reserve_mb',
      meaning:
        'free disk space (MiB) below which only what frees or freezes is still written; 0 turns it off',
    },
    64,
    0,
    1_048_576,
  ),
  // The vault's own bounds (kdfBounds): what is sealed at a cost must also be opened at it.
  kdfMemoryKib: integer(
    {
      key: 'kdf.memory_kib',
      meaning: 'Argon2id memory per derivation (KiB), for what is sealed from now on',
    },
    19_456,
    8,
    262_144,
  ),
  kdfIterations: integer({ key: 'kdf.iterations', meaning: 'Argon2id passes, likewise' }, 2, 1, 64),
  // 1024 derivations are about 10 s on two cores: who comes later is better told to come again.
  rpcMaxDerivationsQueued: integer(
    {
      key: 'rpc.max_derivations_queued',
      meaning: 'credentials waiting to be opened, beyond which: Overloaded',
    },
    1024,
    1,
    10_000,
  ),
  // 10000 bps would hold twice the order.
  signFeeHeadroomBps: integer(
    {
      key: 'sign.fee_headroom_bps',
      meaning: 'fee a BUY order holds beside its amount, in hundredths of a percent',
    },
    1_000,
    0,
    10_000,
  ),
} as const
