import { createHmac, randomFillSync } from 'node:crypto'
import { closeSync, fsyncSync, lstatSync, mkdirSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { encodeMasterKey, masterKeyBytes } from '../keysource/parse-key.ts'
import { offHeap } from '../secret.ts'
import { CliError } from './cli-error.ts'
import { systemReason } from './input/bounded.ts'

const ownerOnlyFile = 0o600
const ownerOnlyDirectory = 0o700
const bitsOfOthers = 0o077

export type Initialised = {
  readonly dataDir: string
  readonly masterKeyFile: string
  /** First 8 bytes, as hex, of HMAC-SHA256(master key, "purser key id"): tells keys apart, gives nothing away. */
  readonly keyId: string
}

/**
 * Makes the data directory (0700) and a new master key in it (0600, on disk before this returns). Throws CliError
 * `cannotCreate` and changes nothing where there is a key or a store already, or where others may enter the directory.
 */
export function initialise(dataDir: string): Initialised {
  makeDirectory(dataDir)
  const masterKeyFile = join(dataDir, 'master.key')
  const store = join(dataDir, 'purser.db')
  if (lstatSync(store, { throwIfNoEntry: false }) !== undefined) throw alreadyThere(store)
  const key = randomFillSync(offHeap(masterKeyBytes))
  const line = encodeMasterKey(key)
  try {
    writeKeyFile(masterKeyFile, line)
    syncDirectory(dataDir)
    const keyId = createHmac('sha256', key).update('purser key id').digest('hex').slice(0, 16)
    return { dataDir, masterKeyFile, keyId }
  } finally {
    key.fill(0)
    line.fill(0)
  }
}

function makeDirectory(path: string): void {
  try {
    const made = mkdirSync(path, { recursive: true, mode: ownerOnlyDirectory })
    if (made !== undefined) syncDirectory(dirname(made))
  } catch (cause) {
    throw new CliError('cannotCreate', `cannot make ${path}: ${systemReason(cause)}`, null, cause)
  }
  const stats = lstatSync(path)
  if (!stats.isDirectory())
    throw new CliError('cannotCreate', `${path} is not a directory`, 'a symbolic link is none either')
  if (stats.uid !== process.geteuid?.())
    throw new CliError(
      'cannotCreate',
      `${path} belongs to uid ${stats.uid}`,
      'run this as the user that purserd runs as',
    )
  if ((stats.mode & bitsOfOthers) !== 0)
    throw new CliError('cannotCreate', `others may use ${path}`, `chmod 700 ${path}`)
}

function alreadyThere(path: string): CliError {
  return new CliError(
    'cannotCreate',
    `${path} exists already`,
    'nothing was changed; a new key would not open what an old one sealed',
  )
}

function writeKeyFile(path: string, line: Buffer): void {
  let file: number
  try {
    // O_EXCL: whatever is there, also a dangling symbolic link, is left alone.
    file = openSync(path, 'wx', ownerOnlyFile)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') throw alreadyThere(path)
    throw new CliError('cannotCreate', `cannot make ${path}: ${systemReason(cause)}`, null, cause)
  }
  try {
    let written = 0
    while (written < line.length) written += writeSync(file, line, written)
    fsyncSync(file)
  } catch (cause) {
    unlinkSync(path)
    throw new CliError('io', `cannot write ${path}: ${systemReason(cause)}`, null, cause)
  } finally {
    closeSync(file)
  }
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}
