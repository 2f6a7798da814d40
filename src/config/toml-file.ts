import { accessSync, closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { dirname } from 'node:path'
import { parse, TomlError, type TomlTable, type TomlValue } from 'smol-toml'
import { StartError } from '../errors.ts'

/** Bytes of a settings file: every key there is fits many times over, and finding a line stays quick. */
const fileBytesMax = 65_536

/** Nesting of arrays and inline tables; no key has any. */
const depthMax = 8

/** Tables below this depth are not opened: no key has more than three parts, so they are unknown anyhow. */
const pathPartsMax = 5

/** One value of the file, or one empty table, under its path. */
export type TomlLeaf = { readonly path: readonly string[]; readonly value: unknown }

/** The settings file, parsed. An absent one has no leaves. */
export type TomlFile = {
  readonly path: string
  readonly present: boolean
  readonly leaves: readonly TomlLeaf[]
  /** Why the operator should look at the file although it was read, or null. */
  readonly warning: string | null
  /** The 1-based line whose statement brought `path` into being. */
  readonly lineOf: (path: readonly string[]) => number
}

/** A key as an operator would write it in the file, quoted where TOML wants that; cut at 120 characters. */
export function printableKey(path: readonly string[]): string {
  const key = path.map((part) => (/^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part))).join('.')
  return key.length <= 120 ? key : `${key.slice(0, 117)}...`
}

/**
 * Reads and parses the settings file. Throws StartError (exit 78) where it cannot be read, is no TOML (naming the
 * line), or is absent though `required`.
 */
export function readTomlFile(path: string, required: boolean): TomlFile {
  const read = readText(path, required)
  if (read === null) return { path, present: false, leaves: [], warning: null, lineOf: () => 0 }
  const { text, warning } = read
  return {
    path,
    present: true,
    leaves: leavesOf(parseText(text, path), []),
    warning,
    lineOf: (key) => lineOf(text, key),
  }
}

function readText(path: string, required: boolean): { text: string; warning: string | null } | null {
  let fd: number
  try {
    // Without O_NONBLOCK a FIFO would hang the start.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (!required && (code === 'ENOENT' || !canBeEntered(dirname(path)))) return null
    throw unreadable(path, code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`)
  }
  try {
    const stat = fstatSync(fd)
    // A character device is let through for `--config /dev/null`.
    if (!stat.isFile() && !stat.isCharacterDevice()) throw unreadable(path, 'is not a regular file')
    const text = decodeUtf8(readBounded(fd, path), path)
    const foreign = stat.isFile() && stat.uid !== 0 && stat.uid !== process.geteuid?.()
    const open = stat.isFile() && (stat.mode & 0o002) !== 0
    return {
      text,
      warning: foreign || open ? `${path} can be changed by other users, and with it every limit` : null,
    }
  } finally {
    closeSync(fd)
  }
}

/** Where not, the data directory itself cannot be used, which is told of as that. */
function canBeEntered(directory: string): boolean {
  try {
    accessSync(`${directory}/.`, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function readBounded(fd: number, path: string): Buffer {
  const bytes = Buffer.alloc(fileBytesMax + 1)
  let length = 0
  try {
    while (length < bytes.length) {
      const count = readSync(fd, bytes, length, bytes.length - length, null)
      if (count === 0) return bytes.subarray(0, length)
      length += count
    }
  } catch (error) {
    throw unreadable(path, `cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  throw unreadable(path, `is larger than ${fileBytesMax} bytes`)
}

function decodeUtf8(bytes: Buffer, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw unreadable(path, 'is not UTF-8')
  }
}

function unreadable(path: string, problem: string): StartError {
  return new StartError(
    'config',
    `the settings file ${path} ${problem}`,
    'correct it or name another with --config',
  )
}

// Integers beyond 2^53 come as bigint, which no key takes, so that they are refused under the key's name.
const parseOptions = { integersAsBigInt: 'asNeeded', maxDepth: depthMax } as const

function parseText(text: string, path: string): TomlTable {
  try {
    return parse(text, parseOptions)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // Only its first line: the rest quotes the file.
    const reason = error.message.split('\n', 1)[0]?.replace(/^Invalid TOML document: /, '')
    throw new StartError(
      'config',
      `line ${error.line} of ${path} is not valid TOML: ${reason}`,
      'correct the line; strings need quotes',
    )
  }
}

function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date)
}

function leavesOf(table: TomlTable, path: readonly string[]): TomlLeaf[] {
  return Object.entries(table).flatMap(([name, value]) => {
    const here = [...path, name]
    const opens = isTable(value) && here.length < pathPartsMax && Object.keys(value).length > 0
    return opens ? leavesOf(value, here) : [{ path: here, value }]
  })
}

/**
 * The parser tells no positions of what it parsed. But a valid document cut at the end of a line is valid exactly
 * where no statement is open there, so the statement that makes `path` appear begins after the last valid cut without
 * it. Only a refusal runs this; the search halves the file so that even the largest takes milliseconds.
 */
function lineOf(text: string, path: readonly string[]): number {
  const lines = text.split('\n')
  // The line feed is put back because a carriage return without one is no end of a line.
  const cut = (count: number) => parsedOrNull(`${lines.slice(0, count).join('\n')}\n`)
  // A cut after `without` lines is valid and lacks the path; every valid one from `holding` on has it.
  let without = 0
  let holding = lines.length
  while (holding - without > 1) {
    const middle = Math.floor((without + holding) / 2)
    let count = middle
    let table = cut(count)
    while (table === null && count + 1 < holding) table = cut(++count)
    if (table === null || holds(table, path)) holding = middle
    else without = count
  }
  return without + 1
}

function parsedOrNull(text: string): TomlTable | null {
  try {
    return parse(text, parseOptions)
  } catch {
    return null
  }
}

function holds(table: TomlTable, path: readonly string[]): boolean {
  let value: TomlValue = table
  for (const part of path) {
    if (!isTable(value) || !Object.hasOwn(value, part)) return false
    value = value[part]!
  }
  return true
}
