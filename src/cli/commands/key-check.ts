import { existsSync, realpathSync } from 'node:fs'
import { ConnectError } from '../../client/index.ts'
import { type Config, type Flags, loadConfig } from '../../config.ts'
import { PurserError, StartError } from '../../errors.ts'
import { takeEnvironmentKey } from '../../keysource/environment.ts'
import type { KeySource } from '../../keysource/key-source.ts'
import { selectKeySource } from '../../keysource/select.ts'
import { type KeyMaterial, keyIdOf, openKeyring } from '../../vault/keyring.ts'
import { type Cli, type GlobalOptions, note, print } from '../cli.ts'
import { CliError } from '../cli-error.ts'
import { withClient } from '../session.ts'
import { formatPairs, shown } from '../text/values.ts'
import { lockHolder, readKeyMaterial } from './key-store.ts'

export type CheckOptions = {
  readonly dataDir?: string
  readonly config?: string
  readonly masterKeyFile?: string
}

/** What the store says of the key that opens it, and who was asked. */
type Stored =
  | { readonly from: 'nobody' }
  | { readonly from: 'daemon'; readonly keyIds: readonly string[] }
  | { readonly from: 'file'; readonly material: KeyMaterial }

/** What `key check` finds. `opens` is null where there is no store yet. */
type Finding = {
  readonly source: Pick<KeySource, 'kind' | 'describe'>
  /** Null where the key is yet to be generated. */
  readonly keyId: string | null
  readonly store: { readonly path: string; readonly keyIds: readonly string[]; readonly from: Stored['from'] }
  readonly opens: boolean | null
}

/**
 * `purser key check`: says which key purserd would use, and throws CliError `checkFailed` where purserd would not
 * start with it.
 */
export async function checkKey(cli: Cli, options: GlobalOptions, check: CheckOptions): Promise<void> {
  const finding = await asCheck(() => findOut(cli, options, check))
  await print(cli, options, finding, describe)
  if (finding.opens !== false) return
  throw new CliError(
    'checkFailed',
    `the key from ${finding.source.describe} does not open the store`,
    'configure the key the store was made with; nothing was changed',
  )
}

async function findOut(cli: Cli, options: GlobalOptions, check: CheckOptions): Promise<Finding> {
  const config = loadConfig({ flags: flagsOf(options, check), env: cli.env })
  for (const warning of config.warnings) note(cli, warning)
  const source = selectKeySource(config, cli.env, takeEnvironmentKey())
  const { kind, describe: name } = source
  const { path } = config.store
  // To read it would be to make it.
  if (kind === 'generated') {
    const store = { path, keyIds: [], from: 'nobody' as const }
    return { source: { kind, describe: name }, keyId: null, store, opens: null }
  }
  const key = await source.read()
  try {
    if (source.warning !== null) note(cli, source.warning)
    const keyId = keyIdOf(key)
    const stored = await askStore(config, options, cli.env)
    const store = { path, keyIds: keyIdsOf(stored), from: stored.from }
    return { source: { kind, describe: name }, keyId, store, opens: opens(key, keyId, stored) }
  } finally {
    key.fill(0)
  }
}

/** The flags purserd would have been given. */
function flagsOf({ socket }: GlobalOptions, { dataDir, config, masterKeyFile }: CheckOptions): Flags {
  return {
    ...(dataDir === undefined ? {} : { 'data-dir': dataDir }),
    ...(config === undefined ? {} : { config }),
    ...(masterKeyFile === undefined ? {} : { 'master-key-file': masterKeyFile }),
    ...(socket === undefined ? {} : { socket }),
  }
}

/** A daemon that has the store open is asked, for it locks the file; else the file is read. */
async function askStore(config: Config, options: GlobalOptions, env: Cli['env']): Promise<Stored> {
  const { path } = config.store
  if (!existsSync(path)) return { from: 'nobody' }
  const keyIds = await askDaemon(path, { ...options, socket: socketOf(config, options, env) })
  if (keyIds !== null) return { from: 'daemon', keyIds }
  const holder = lockHolder(path)
  if (holder !== null) {
    throw new CliError(
      'unreachable',
      `${path} is in use by process ${holder}, which does not answer`,
      'name its socket by --socket, run this as its user or root, or stop it',
    )
  }
  const material = readKeyMaterial(path)
  return material === null ? { from: 'nobody' } : { from: 'file', material }
}

/** The admin socket where there is one, for only there is root an admin; undefined leaves it to the usual places. */
function socketOf({ socket }: Config, options: GlobalOptions, env: Cli['env']): string | undefined {
  const named = options.socket ?? (env['PURSER_SOCKET'] || undefined)
  if (socket.adminPath !== null && existsSync(socket.adminPath)) return socket.adminPath
  return named ?? (existsSync(socket.path) ? socket.path : undefined)
}

/** The ids of the keys that open the store, from the daemon that has this very one open; null where none answers, or one with another store. */
async function askDaemon(
  path: string,
  options: Omit<GlobalOptions, 'socket'> & { readonly socket: string | undefined },
): Promise<readonly string[] | null> {
  const { socket, ...others } = options
  try {
    const status = await withClient(socket === undefined ? others : { ...others, socket }, (client) =>
      client.call('system.status'),
    )
    const { store, masterKey } = status as { store?: { path?: unknown }; masterKey?: { keyIds?: unknown } }
    if (typeof store?.path !== 'string' || !isSameFile(store.path, path)) return null
    const keyIds = masterKey?.keyIds
    return Array.isArray(keyIds) && keyIds.every((one) => typeof one === 'string') ? keyIds : null
  } catch (error) {
    if (error instanceof ConnectError) return null
    throw error
  }
}

function isSameFile(one: string, other: string): boolean {
  try {
    return realpathSync(one) === realpathSync(other)
  } catch {
    return false
  }
}

function keyIdsOf(stored: Stored): readonly string[] {
  if (stored.from === 'nobody') return []
  return stored.from === 'daemon' ? stored.keyIds : stored.material.rows.map(({ keyId }) => keyId)
}

function opens(key: Buffer, keyId: string, stored: Stored): boolean | null {
  if (stored.from === 'nobody') return null
  if (stored.from === 'daemon') return stored.keyIds.includes(keyId)
  try {
    openKeyring(key, stored.material).close()
    return true
  } catch (error) {
    if (error instanceof PurserError) return false
    throw new CliError('checkFailed', 'the key material of the store is damaged', 'restore a backup', error)
  }
}

function describe({ source, keyId, store, opens: does }: Finding): string {
  const { path, keyIds, from } = store
  const asked = { nobody: '-', daemon: 'the daemon that has it open', file: 'the file' }[from]
  return formatPairs([
    [
      'source',
      source.kind === 'generated' ? `none: one would be generated at ${source.describe}` : source.describe,
    ],
    ['key id', shown(keyId)],
    ['store', from === 'nobody' ? `${path}, which is not there yet` : path],
    ['store was made with', keyIds.length === 0 ? '-' : keyIds.join(', ')],
    ['asked', asked],
    ['opens the store', does === null ? 'it would be made with this key' : shown(does)],
  ])
}

/** What keeps purserd from starting is what this check is there to find. */
async function asCheck<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    if (error instanceof StartError) throw new CliError('checkFailed', error.message, error.hint, error)
    throw error
  }
}
