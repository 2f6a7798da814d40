import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Config, describeSettings, type Flags, loadConfig } from '../src/config.ts'
import { exitCodes, StartError } from '../src/errors.ts'
import { kdfBounds, kdfParamsAreBounded } from '../src/vault/kdf.ts'
import { skipWith } from './support/skip.ts'

let directory: string
let file: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-config-'))
  file = join(directory, 'purser.toml')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

type Given = { toml?: string; env?: Record<string, string>; flags?: Flags; cwd?: string }

/** Loads with the temporary directory as the data directory, so that nothing of the machine is read. */
function load({ toml, env = {}, flags = {}, cwd = directory }: Given): Config {
  if (toml !== undefined) writeFileSync(file, toml)
  return loadConfig({ flags: { 'data-dir': directory, ...flags }, env, cwd })
}

function refusal(given: Given): StartError {
  try {
    load(given)
  } catch (error) {
    if (error instanceof StartError) return error
    throw error
  }
  throw new Error('accepted')
}

describe('defaults', () => {
  test('are those of the contract', () => {
    expect(load({})).toMatchObject({
      dataDir: directory,
      configFile: null,
      sealed: false,
      socket: { path: join(directory, 'purser.sock'), adminPath: null, mode: 0o600 },
      key: { file: null, onFailure: 'exit' },
      log: { level: 'info' },
      cache: { ttlSeconds: 300, maxEntries: 1000 },
      decrypt: { limit: 100, windowSeconds: 60 },
      credentials: { privateKeyPolicy: 'exportable', maxPerUser: 1000 },
      store: { path: join(directory, 'purser.db'), reserveMb: 64 },
      kdf: { memoryKib: 19456, iterations: 2 },
      sign: { feeHeadroomBps: 1000 },
      warnings: [],
    })
  })

  test('are frozen, all the way down', () => {
    const open: string[] = []
    const look = (value: unknown, at: string) => {
      if (typeof value !== 'object' || value === null) return
      if (!Object.isFrozen(value)) open.push(at)
      for (const [name, member] of Object.entries(value)) look(member, `${at}.${name}`)
    }
    look(load({ env: { PURSER_NONSENSE: '' } }), 'config')
    expect(open).toEqual([])
  })
})

/** One row per key: a value in the file, one in the variable, and what they must not be. */
const keys: [
  key: string,
  read: (config: Config) => unknown,
  file: [toml: string, value: unknown],
  variable: [text: string, value: unknown],
  bad: { toml: string[]; text: string[] },
][] = [
  [
    'cache.ttl_seconds',
    (config) => config.cache.ttlSeconds,
    ['0', 0],
    ['86400', 86_400],
    {
      toml: ['-1', '86401', '1.5', '"300"', 'true', 'nan'],
      text: ['', '-1', '86401', '1.5', '0x10', '1e2', ' 5', '007'],
    },
  ],
  [
    'cache.max_entries',
    (config) => config.cache.maxEntries,
    ['1', 1],
    ['100000', 100_000],
    { toml: ['0', '100001'], text: ['0', '100001'] },
  ],
  [
    'decrypt.limit',
    (config) => config.decrypt.limit,
    ['1', 1],
    ['100000', 100_000],
    { toml: ['0'], text: ['100001'] },
  ],
  [
    'decrypt.window_seconds',
    (config) => config.decrypt.windowSeconds,
    ['1', 1],
    ['86400', 86_400],
    { toml: ['0'], text: ['86401'] },
  ],
  [
    'socket.mode',
    (config) => config.socket.mode,
    ['"0660"', 0o660],
    ['0666', 0o666],
    {
      toml: ['600', '0o600', '"0777"', '"0400"', '"1600"', '"0601"', '"660 "'],
      text: ['rw', '', '0060', '384'],
    },
  ],
  [
    'credentials.private_key_policy',
    (config) => config.credentials.privateKeyPolicy,
    ['"sign-only"', 'sign-only'],
    ['exportable', 'exportable'],
    { toml: ['"Sign-only"', '1'], text: ['', 'none'] },
  ],
  [
    'credentials.max_per_user',
    (config) => config.credentials.maxPerUser,
    ['1', 1],
    ['1000000', 1_000_000],
    { toml: ['0'], text: ['1000001'] },
  ],
  [
    'store.reserve_mb',
    (config) => config.store.reserveMb,
    ['0', 0],
    ['1048576', 1_048_576],
    { toml: ['-1'], text: ['1048577'] },
  ],
  [
    'key.on_failure',
    (config) => config.key.onFailure,
    ['"exit"', 'exit'],
    ['seal', 'seal'],
    { toml: ['"stop"'], text: [''] },
  ],
  [
    'kdf.memory_kib',
    (config) => config.kdf.memoryKib,
    ['8', 8],
    ['262144', 262_144],
    { toml: ['7'], text: ['262145'] },
  ],
  ['kdf.iterations', (config) => config.kdf.iterations, ['1', 1], ['50', 50], { toml: ['0'], text: ['65'] }],
  [
    'log.level',
    (config) => config.log.level,
    ['"debug"', 'debug'],
    ['warn', 'warn'],
    { toml: ['"loud"'], text: ['INFO'] },
  ],
  [
    'rpc.max_derivations_queued',
    (config) => config.rpc.maxDerivationsQueued,
    ['1', 1],
    ['10000', 10_000],
    { toml: ['0'], text: ['10001'] },
  ],
  [
    'sign.fee_headroom_bps',
    (config) => config.sign.feeHeadroomBps,
    ['0', 0],
    ['10000', 10_000],
    { toml: ['10001'], text: ['10001'] },
  ],
]

const variableOf = (key: string) => `PURSER_${key.toUpperCase().replaceAll('.', '_')}`

describe.each(keys)('%s', (key, read, [toml, fileValue], [text, variableValue], bad) => {
  test('is read from the file, as a dotted key and in a table', () => {
    const [table, name] = key.split('.')
    expect(read(load({ toml: `${key} = ${toml}` }))).toBe(fileValue)
    expect(read(load({ toml: `[${table}]\n${name} = ${toml}` }))).toBe(fileValue)
  })

  test('is read from its variable, which beats the file', () => {
    const config = load({ toml: `${key} = ${toml}`, env: { [variableOf(key)]: text } })
    expect(read(config)).toBe(variableValue)
    expect(config.warnings).toEqual([])
  })

  test.each(bad.toml)('refuses %s in the file, naming key and line', (value) => {
    const error = refusal({ toml: `\n\n${key} = ${value}\n` })
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toContain(`bad value for ${key} (line 3 of ${file}): must be `)
  })

  test.each(bad.text)('refuses %j in the variable, naming it', (value) => {
    const error = refusal({ env: { [variableOf(key)]: value } })
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toContain(`bad value for ${variableOf(key)}: must be `)
  })

  test('a bad value in the file is refused although the variable overrules it', () => {
    const error = refusal({ toml: `${key} = []`, env: { [variableOf(key)]: text } })
    expect(error.message).toContain(`bad value for ${key} (line 1 of ${file})`)
  })
})

describe('the settings with a flag', () => {
  const rows: [string, keyof Flags, string, string, (config: Config) => unknown][] = [
    ['socket.path', 'socket', 'PURSER_SOCKET', 's', (config) => config.socket.path],
    ['socket.admin_path', 'admin-socket', 'PURSER_ADMIN_SOCKET', 'a', (config) => config.socket.adminPath],
    ['key.file', 'master-key-file', 'PURSER_MASTER_KEY_FILE', 'k', (config) => config.key.file],
  ]
  test.each(rows)('%s: flag beats variable beats file', (key, flag, variable, name, read) => {
    const from = (place: string) => join(directory, `${place}-${name}`)
    const toml = `${key} = "${from('file')}"`
    const env = { [variable]: from('variable') }
    expect(read(load({ toml }))).toBe(from('file'))
    expect(read(load({ toml, env }))).toBe(from('variable'))
    expect(read(load({ toml, env, flags: { [flag]: from('flag') } }))).toBe(from('flag'))
  })

  test('log.level: flag beats variable beats file', () => {
    const given = { toml: 'log.level = "error"', env: { PURSER_LOG_LEVEL: 'warn' } }
    expect(load({ ...given, flags: { 'log-level': 'debug' } }).log.level).toBe('debug')
    expect(load(given).log.level).toBe('warn')
    expect(load({ toml: 'log.level = "error"' }).log.level).toBe('error')
  })

  test('the data directory and the settings file: flag beats variable', () => {
    const env = { PURSER_DATA_DIR: join(directory, 'env'), PURSER_CONFIG: join(directory, 'env.toml') }
    writeFileSync(env.PURSER_CONFIG, 'cache.ttl_seconds = 1')
    const fromEnvironment = loadConfig({ flags: {}, env, cwd: directory })
    expect(fromEnvironment).toMatchObject({
      dataDir: env.PURSER_DATA_DIR,
      configFile: env.PURSER_CONFIG,
      cache: { ttlSeconds: 1 },
    })
    writeFileSync(file, 'cache.ttl_seconds = 2')
    const flags = { 'data-dir': directory, config: file }
    expect(loadConfig({ flags, env, cwd: '/' })).toMatchObject({
      dataDir: directory,
      cache: { ttlSeconds: 2 },
    })
  })

  test('a relative path starts at the working directory, in the file at the directory of the file', () => {
    const elsewhere = join(directory, 'etc')
    mkdirSync(elsewhere)
    writeFileSync(join(elsewhere, 'x.toml'), 'key.file = "k"\nsocket.admin_path = "../a"')
    const config = load({
      flags: { 'data-dir': 'data', config: 'etc/x.toml' },
      env: { PURSER_SOCKET: 'run/s' },
    })
    expect(config.dataDir).toBe(join(directory, 'data'))
    expect(config.key.file).toBe(join(elsewhere, 'k'))
    expect(config.socket).toMatchObject({ path: join(directory, 'run/s'), adminPath: join(directory, 'a') })
  })

  test.each<[Given, string]>([
    [{ flags: { socket: '' } }, '--socket'],
    [{ flags: { 'data-dir': '' } }, '--data-dir'],
    [{ flags: { config: '' } }, '--config'],
    [{ flags: { 'log-level': 'loud' } }, '--log-level'],
    [{ flags: { 'master-key-file': 'a\nb' } }, '--master-key-file'],
    [{ env: { PURSER_SOCKET: '' } }, 'PURSER_SOCKET'],
    [{ env: { PURSER_SEALED: 'maybe' } }, 'PURSER_SEALED'],
    [{ env: { PURSER_SEALED: '' } }, 'PURSER_SEALED'],
    [{ env: { PURSER_MASTER_KEY_FILE: 'x'.repeat(4096) } }, 'PURSER_MASTER_KEY_FILE'],
  ])('refuses %j with exit 78, naming %s', (given, where) => {
    const error = refusal(given)
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toContain(`bad value for ${where}: must be `)
  })

  test('a bad value is never repeated', () => {
    const error = refusal({ toml: 'key.file = ["hush-hush"]', env: {} })
    expect(`${error.message} ${error.hint}`).not.toContain('hush')
    expect(refusal({ env: { PURSER_LOG_LEVEL: 'hush-hush' } }).message).not.toContain('hush')
  })
})

describe('unknown keys and variables', () => {
  test.each<[string, string]>([
    ['[cache]\nttl = 5', 'unknown key cache.ttl (line 2'],
    ['cache.ttl_seconds = 5\n\nnonsense = 1', 'unknown key nonsense (line 3'],
    ['[nonsense]', 'unknown key nonsense (line 1'],
    ['[a.b]\nc = 1', 'unknown key a.b.c (line 2'],
    ['cache.ttl_seconds.x = 1', 'unknown key cache.ttl_seconds.x (line 1'],
    ['"cache.ttl_seconds" = 1', 'unknown key "cache.ttl_seconds" (line 1'],
    ['data_dir = "/x"', 'unknown key data_dir (line 1'],
    ['Cache.ttl_seconds = 1', 'unknown key Cache.ttl_seconds (line 1'],
    ['__proto__ = 1', 'unknown key __proto__ (line 1'],
    ['cache = 1', 'bad value for cache (line 1'],
    ['\n[[cache]]\nttl_seconds = 1', 'bad value for cache (line 2'],
  ])('%j is refused', (toml, message) => {
    const error = refusal({ toml })
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toContain(`${message} of ${file})`)
  })

  test('an empty table is fine', () => {
    expect(load({ toml: '[cache]\n[tiers]\n[tiers.free]' }).cache.ttlSeconds).toBe(300)
  })

  test('an unknown variable is warned of by name, without its value', () => {
    const { warnings } = load({ env: { PURSER_CACHE_TTL: 'hush', PURSER_SOCKET_PATH: 'hush', OTHER: 'x' } })
    expect(warnings).toEqual([
      'unknown variable PURSER_CACHE_TTL is ignored',
      'unknown variable PURSER_SOCKET_PATH is ignored: socket.path is set by PURSER_SOCKET',
    ])
  })

  test('variables of the launchers and the tests are not warned of, nor those of tiers', () => {
    const env = { PURSER_JITLESS: '1', PURSER_TEST_SEED: '1', PURSER_TIERS_FREE_DAILY: '5' }
    expect(load({ env }).warnings).toEqual([])
    const close = { PURSER_JITLESSX: '1', PURSER_TIERS_FREE_WEEKLY: '5', PURSER_TIERS_free_DAILY: '5' }
    expect(load({ env: close }).warnings).toHaveLength(3)
  })

  test('warnings have a bound', () => {
    const env = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`PURSER_X${i}`, '1']))
    expect(load({ env }).warnings).toHaveLength(20)
  })
})

describe('the settings file', () => {
  test('is DIR/purser.toml, which may be absent', () => {
    expect(load({}).configFile).toBeNull()
    expect(load({ toml: 'cache.ttl_seconds = 7' })).toMatchObject({
      configFile: file,
      cache: { ttlSeconds: 7 },
    })
  })

  test('must be there where it is named', () => {
    const missing = join(directory, 'none.toml')
    for (const given of [{ flags: { config: missing } }, { env: { PURSER_CONFIG: missing } }]) {
      const error = refusal(given)
      expect(error.exitCode).toBe(exitCodes.config)
      expect(error.message).toBe(`the settings file ${missing} does not exist`)
    }
  })

  test('that anybody may write is warned of', () => {
    writeFileSync(file, '', { mode: 0o600 })
    spawnSync('chmod', ['0666', file])
    expect(load({}).warnings).toEqual([`${file} can be changed by other users, and with it every limit`])
  })
})

describe('default directories', () => {
  const config = (env: Record<string, string>, flags: Flags = {}) =>
    loadConfig({ flags, env, cwd: directory })

  test('the data directory is the first of STATE_DIRECTORY', () => {
    const state = join(directory, 'state')
    expect(config({ STATE_DIRECTORY: state }).dataDir).toBe(state)
    expect(config({ STATE_DIRECTORY: `${state}:/other` }).dataDir).toBe(state)
    expect(config({ STATE_DIRECTORY: state, PURSER_DATA_DIR: directory }).dataDir).toBe(directory)
  })

  test('the socket lies in RUNTIME_DIRECTORY, else in XDG_RUNTIME_DIR, else in the data directory', () => {
    const flags = { 'data-dir': directory }
    const all = { RUNTIME_DIRECTORY: '/run/purser:/run/other', XDG_RUNTIME_DIR: '/run/user/7' }
    expect(config(all, flags).socket.path).toBe('/run/purser/purser.sock')
    expect(config({ XDG_RUNTIME_DIR: '/run/user/7' }, flags).socket.path).toBe(
      '/run/user/7/purser/purser.sock',
    )
    for (const env of [
      {},
      { XDG_RUNTIME_DIR: '' },
      { XDG_RUNTIME_DIR: 'relative' },
      { RUNTIME_DIRECTORY: '' },
    ]) {
      expect(config(env, flags).socket.path).toBe(join(directory, 'purser.sock'))
    }
  })

  const entry = resolve(import.meta.dirname, '../src/config.ts')
  const child = (env: Record<string, string>, uid?: number) => {
    const code = `
      const { loadConfig } = await import(process.argv[1])
      try { console.log(loadConfig({ flags: {}, env: process.env }).dataDir) }
      catch (error) { console.log(error.exitCode, error.message) }`
    const options = uid === undefined ? {} : { uid, gid: uid }
    const result = spawnSync(process.execPath, ['--input-type=module', '-e', code, entry], {
      env,
      encoding: 'utf8',
      cwd: '/',
      ...options,
    })
    return { out: result.stdout.trim(), err: result.stderr, failed: result.error }
  }

  test('without systemd the data lies where XDG says', () => {
    expect(child({ HOME: directory }).out).toBe(join(directory, '.local/share/purser'))
    expect(child({ HOME: '/nowhere', XDG_DATA_HOME: directory }).out).toBe(join(directory, 'purser'))
    expect(child({ HOME: 'relative' }).out).toBe('78 HOME or XDG_DATA_HOME is not an absolute path')
  })

  test('a uid without a home directory is told to name one, and starts where it has', (context) => {
    const uid = 4_123_456
    const told = process.getuid?.() === 0 ? child({}, uid) : null
    if (told === null || /EACCES|ERR_MODULE_NOT_FOUND/.test(told.err)) {
      return skipWith(context.skip, 'needs root, and a source tree that another uid can read')
    }
    expect(told.out).toBe('78 this user has no home directory for the data')
    expect(child({ PURSER_DATA_DIR: '/srv/purser' }, uid).out).toBe('/srv/purser')
  })
})

describe('socket paths', () => {
  const long = (bytes: number) => `/${'s'.repeat(bytes - 1)}`

  test('are at most 107 bytes', () => {
    expect(load({ flags: { socket: long(107), 'admin-socket': `/a${long(105)}` } }).socket.path).toBe(
      long(107),
    )
  })

  test.each<[Given, string]>([
    [{ flags: { socket: long(108) } }, 'the socket path from --socket is too long: 108 bytes, at most 107'],
    [
      { env: { PURSER_SOCKET: `/${'ü'.repeat(54)}` } },
      'the socket path from PURSER_SOCKET is too long: 109 bytes, at most 107',
    ],
    [
      { flags: { 'admin-socket': long(200) } },
      'the admin socket path from --admin-socket is too long: 200 bytes, at most 107',
    ],
    [
      { env: { XDG_RUNTIME_DIR: long(90) } },
      'the socket path from the default is too long: 109 bytes, at most 107',
    ],
  ])('%j is refused with exit 78', (given, message) => {
    const error = refusal(given)
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toBe(message)
  })

  test('too long in the file: named with its line', () => {
    const error = refusal({ toml: `\nsocket.path = "${long(108)}"` })
    expect(error.message).toBe(
      `the socket path from socket.path (line 2 of ${file}) is too long: 108 bytes, at most 107`,
    )
  })

  test('the two may not be one', () => {
    const error = refusal({ flags: { socket: '/run/x/../s', 'admin-socket': '/run/s' } })
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toBe('the admin socket path from --admin-socket is the socket itself')
  })
})

test('PURSER_SEALED may say no, and yes', () => {
  for (const no of ['0', 'false', 'no']) expect(load({ env: { PURSER_SEALED: no } }).sealed).toBe(false)
  expect(load({ env: { PURSER_SEALED: '1' } }).sealed).toBe(true)
  expect(load({ flags: { sealed: 'true' } }).sealed).toBe(true)
})

describe('describeSettings', () => {
  test('has every key that is tested here, and the flags', () => {
    const described = describeSettings()
    const named = described.flatMap(({ key }) => (key === null || key.startsWith('tiers') ? [] : [key]))
    const tested = [...keys.map(([key]) => key), 'socket.path', 'socket.admin_path', 'key.file']
    expect([...named].sort()).toEqual([...tested].sort())
    expect(described.flatMap(({ flag }) => (flag === null ? [] : [flag])).sort()).toEqual([
      '--admin-socket',
      '--config',
      '--data-dir',
      '--log-level',
      '--master-key-file',
      '--sealed',
      '--socket',
    ])
  })

  test('names each variable once, by the rule where no flag has its own', () => {
    const described = describeSettings()
    expect(new Set(described.map(({ variable }) => variable)).size).toBe(described.length)
    for (const { key, flag, variable } of described) {
      if (flag === null && key !== null && !key.startsWith('tiers')) expect(variable).toBe(variableOf(key))
    }
  })
})

test('a derivation that costs too much by both its numbers is refused, by the bounds of the vault', () => {
  const load = (env: Record<string, string>) =>
    loadConfig({ flags: {}, env: { HOME: '/nonexistent', ...env } })
  expect(() => load({ PURSER_KDF_MEMORY_KIB: '262144', PURSER_KDF_ITERATIONS: '5' })).toThrow(
    /kdf\.memory_kib/,
  )
  const { kdf } = load({ PURSER_KDF_MEMORY_KIB: '262144', PURSER_KDF_ITERATIONS: '4' })
  expect(kdfParamsAreBounded(kdf)).toBe(true)
  expect(kdfBounds.memoryKib).toEqual({ min: 8, max: 262_144 })
  expect(kdfBounds.iterations).toEqual({ min: 1, max: 64 })
  expect(kdfBounds.work.max).toBe(1_048_576)
})
