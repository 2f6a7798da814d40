import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Random } from './random.ts'

/** What a disk writes whole or not at all. */
const sectorBytes = 512
/** What the kernel keeps or drops as one. */
const pageBytes = 4096
const headerBytes = 24

const types = [
  '',
  'opened',
  'written',
  'truncated',
  'synced',
  'sync failed',
  'directory synced',
  'unlinked',
  'answered',
  'linked',
] as const

export type LogRecord = {
  readonly type: (typeof types)[number]
  /** Number of the file, of the socket for `answered`. */
  readonly file: number
  /** Where it was written, the size it was cut to, for `opened` 1 where it was made. */
  readonly offset: number
  /** What was written, or the name; for `linked` the name that was and the new one, with a zero byte between. */
  readonly data: Buffer
}

/** The records of a log, in order; one that was cut off at the end is left out. */
export function readLog(path: string): LogRecord[] {
  const log = readFileSync(path)
  const records: LogRecord[] = []
  for (let at = 0; at + headerBytes <= log.length; ) {
    const length = log.readUInt32LE(at + 16)
    if (at + headerBytes + length > log.length) break
    records.push({
      type: types[log.readUInt32LE(at)]!,
      file: log.readUInt32LE(at + 4),
      offset: Number(log.readBigInt64LE(at + 8)),
      data: log.subarray(at + headerBytes, at + headerBytes + length),
    })
    at += headerBytes + length
  }
  return records
}

/** The files directly in a directory, by name. */
export type Image = Map<string, Buffer>

export function readImage(directory: string): Image {
  const names = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isFile())
  return new Map(names.map(({ name }) => [name, readFileSync(join(directory, name))]))
}

/** Makes `directory` hold these files and no others. */
export function writeImage(directory: string, image: Image): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  for (const name of readdirSync(directory)) {
    if (!image.has(name)) rmSync(join(directory, name), { recursive: true })
  }
  for (const [name, bytes] of image) writeFileSync(join(directory, name), bytes, { mode: 0o600 })
}

type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly data: Buffer; readonly dropped: boolean }
  | { readonly kind: 'truncate'; readonly size: number }

type File = { synced: Content; changes: Change[] }

/** What a power cut leaves of changes that were not synced. */
export type Survival =
  /** None of them. */
  | 'nothing'
  /** All of them, as when only the process is killed. */
  | 'everything'
  /** The first ones, and half of the next. */
  | 'prefix'
  /** Any of them, each whole or torn, later ones without earlier ones. */
  | 'calls'
  /** Every sector as any of the calls that touched it left it, the file of any length it had. */
  | 'sectors'

export const survivals: readonly Survival[] = ['nothing', 'everything', 'prefix', 'calls', 'sectors']

/**
 * A directory on a disk that keeps for certain only what was synced. A sync that failed is as bad as Linux makes it:
 * the pages count as written from then on, so that no later sync writes them unless they are changed again.
 */
export class Disk {
  #files = new Map<number, File>()
  /** Names as they are, and as they were when the directory was last synced. */
  #names = new Map<string, File>()
  #syncedNames = new Map<string, File>()

  constructor(image: Image) {
    for (const [name, bytes] of image) {
      const file: File = { synced: new Content(bytes), changes: [] }
      this.#names.set(name, file)
      this.#syncedNames.set(name, file)
    }
  }

  apply(record: LogRecord): void {
    const file = this.#files.get(record.file)
    switch (record.type) {
      case 'opened':
        this.#opened(record)
        break
      case 'written':
        file?.changes.push({ kind: 'write', offset: record.offset, data: record.data, dropped: false })
        break
      case 'truncated':
        file?.changes.push({ kind: 'truncate', size: record.offset })
        break
      case 'synced':
        if (file !== undefined) synchronize(file)
        break
      case 'sync failed':
        if (file !== undefined)
          file.changes = file.changes.map((change) =>
            change.kind === 'write' ? { ...change, dropped: true } : change,
          )
        break
      case 'directory synced':
        this.#syncedNames = new Map(this.#names)
        break
      case 'linked': {
        const [from, to] = record.data.toString().split('\0')
        const linked = this.#names.get(from!)
        if (linked !== undefined) this.#names.set(to!, linked)
        break
      }
      case 'unlinked':
        this.#names.delete(record.data.toString())
        break
      default:
    }
  }

  /** The directory after a power cut now. */
  image(survival: Survival, random: Random): Image {
    const image: Image = new Map()
    for (const name of new Set([...this.#names.keys(), ...this.#syncedNames.keys()])) {
      const file = survivor(survival, random, this.#syncedNames.get(name), this.#names.get(name))
      if (file !== undefined) image.set(name, contentAfter(file, survival, random))
    }
    return image
  }

  #opened({ file: number, offset: made, data }: LogRecord): void {
    const name = data.toString()
    let file = this.#names.get(name)
    if (made === 1 || file === undefined) {
      file = { synced: new Content(Buffer.alloc(0)), changes: [] }
      this.#names.set(name, file)
    }
    this.#files.set(number, file)
  }
}

function survivor(survival: Survival, random: Random, synced: File | undefined, latest: File | undefined) {
  if (survival === 'nothing') return synced
  if (survival === 'everything') return latest
  return random.chance(0.5) ? synced : latest
}

/** All changes reach the disk, but for pages the kernel believes to be there already. */
function synchronize(file: File): void {
  const written = new Set<number>()
  for (const change of file.changes)
    if (change.kind === 'write' && !change.dropped) for (const page of pagesOf(change)) written.add(page)
  const left: Change[] = []
  for (const change of file.changes) {
    if (change.kind === 'write' && change.dropped) {
      for (const piece of pieces(change, pageBytes)) {
        if (written.has(Math.floor(piece.offset / pageBytes))) file.synced.write(piece.offset, piece.data)
        else left.push({ kind: 'write', ...piece, dropped: true })
      }
    } else applyTo(file.synced, change)
  }
  file.changes = left
}

function contentAfter({ synced, changes }: File, survival: Survival, random: Random): Buffer {
  const content = synced.copy()
  if (survival === 'sectors') return sectorsAfter(content, changes, random)
  const kept = random.next()
  const whole = survival === 'prefix' ? random.int(0, changes.length) : changes.length
  for (const [index, change] of changes.entries()) {
    if (survival === 'nothing' || index > whole) break
    const torn = survival === 'prefix' ? index === whole : survival === 'calls' && random.chance(0.2)
    if (survival === 'calls' && !random.chance(kept)) continue
    applyTo(content, torn ? tornHalf(change, random) : change)
  }
  return content.bytes()
}

function sectorsAfter(content: Content, changes: readonly Change[], random: Random): Buffer {
  const touched = new Map<number, number>()
  const writes = changes.flatMap((change) => (change.kind === 'write' ? pieces(change, sectorBytes) : []))
  for (const { offset } of writes) touched.set(sectorOf(offset), (touched.get(sectorOf(offset)) ?? 0) + 1)
  const chosen = new Map([...touched].map(([sector, times]) => [sector, random.int(0, times)]))
  const sizes = [content.size]
  for (const change of changes)
    sizes.push(
      change.kind === 'truncate' ? change.size : Math.max(sizes.at(-1)!, change.offset + change.data.length),
    )
  for (const { offset, data } of writes) {
    const left = chosen.get(sectorOf(offset))!
    if (left === 0) continue
    chosen.set(sectorOf(offset), left - 1)
    content.write(offset, data)
  }
  content.truncate(random.pick(sizes))
  return content.bytes()
}

function sectorOf(offset: number): number {
  return Math.floor(offset / sectorBytes)
}

function* pagesOf({ offset, data }: { offset: number; data: Buffer }): Generator<number> {
  for (let page = Math.floor(offset / pageBytes); page * pageBytes < offset + data.length; page++) yield page
}

/** A write cut at the boundaries of blocks of this size. */
function pieces({ offset, data }: { offset: number; data: Buffer }, blockBytes: number) {
  const cut: { offset: number; data: Buffer }[] = []
  for (let at = 0; at < data.length; ) {
    const length = Math.min(blockBytes - ((offset + at) % blockBytes), data.length - at)
    cut.push({ offset: offset + at, data: data.subarray(at, at + length) })
    at += length
  }
  return cut
}

function tornHalf(change: Change, random: Random): Change {
  if (change.kind === 'truncate') return change
  const cut = pieces(change, sectorBytes)
  const bytes = cut.slice(0, random.int(0, cut.length)).reduce((sum, { data }) => sum + data.length, 0)
  return { ...change, data: change.data.subarray(0, bytes) }
}

function applyTo(content: Content, change: Change): void {
  if (change.kind === 'truncate') content.truncate(change.size)
  else content.write(change.offset, change.data)
}

/** The bytes of a file, which grow by doubling. */
class Content {
  #bytes: Buffer
  size: number

  constructor(bytes: Buffer) {
    this.#bytes = Buffer.from(bytes)
    this.size = bytes.length
  }

  write(offset: number, data: Buffer): void {
    if (data.length === 0) return
    this.#grow(offset + data.length)
    data.copy(this.#bytes, offset)
    this.size = Math.max(this.size, offset + data.length)
  }

  truncate(size: number): void {
    this.#grow(size)
    if (size < this.size) this.#bytes.fill(0, size, this.size)
    this.size = size
  }

  copy(): Content {
    return new Content(this.bytes())
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.size)
  }

  #grow(size: number): void {
    if (size <= this.#bytes.length) return
    const grown = Buffer.alloc(Math.max(size, 2 * this.#bytes.length))
    this.#bytes.copy(grown, 0, 0, this.size)
    this.#bytes = grown
  }
}
