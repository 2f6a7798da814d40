import { closeSync, openSync, readFileSync, readSync } from 'node:fs'

/**
 * How often secrets stand in the memory of another process, in any spelling it may have been given. Reads /proc/PID/mem
 * as root, so pages that the process itself may not touch (PROT_NONE: sodium's guarded ones) are read like any other.
 */

/** A piece of a secret this long cannot be there by chance. */
const fragmentBytes = 20

type Kind = 'raw' | 'hex' | 'base64' | 'fragment'

/** What to look for; `needles` are told apart by what they would mean. */
type Wanted = { readonly name: string; readonly kind: Kind; readonly needle: Buffer }

/** Copies found of one secret. `fragments` beyond those inside of whole copies, as information. */
export type Copies = { raw: number; encoded: number; fragments: number }

/** Every secret of a test and each of its spellings. Add what a later feature keeps: one line. */
export class Secrets {
  readonly #wanted: Wanted[] = []
  readonly #names: string[] = []

  get names(): readonly string[] {
    return this.#names
  }

  /** Bytes, as they are and as hex and base64 of any alignment. A text that encodes bytes: add both under two names. */
  add(name: string, secret: Buffer | string): this {
    const bytes = typeof secret === 'string' ? Buffer.from(secret) : secret
    if (bytes.length < fragmentBytes) throw new RangeError(`${name} is too short to be looked for`)
    this.#names.push(name)
    this.#want(name, 'raw', bytes)
    const hex = bytes.toString('hex')
    for (const text of new Set([hex, hex.toUpperCase()])) this.#want(name, 'hex', Buffer.from(text))
    for (const text of base64Interiors(bytes)) this.#want(name, 'base64', Buffer.from(text))
    this.#want(name, 'fragment', bytes.subarray(0, fragmentBytes))
    this.#want(name, 'fragment', bytes.subarray(-fragmentBytes))
    return this
  }

  /** The same in another spelling, counted among its encoded copies. */
  alsoAs(name: string, spelling: Buffer | string): this {
    this.#want(name, 'base64', typeof spelling === 'string' ? Buffer.from(spelling) : spelling)
    return this
  }

  /** Copies of each secret in the memory of `pid`, which stands still meanwhile. */
  in(pid: number): Record<string, Copies> {
    const found = this.#wanted.map(() => 0)
    const search = new Search(this.#wanted.map(({ needle }) => needle))
    process.kill(pid, 'SIGSTOP')
    try {
      for (const run of presentMemory(pid)) search.count(run, found)
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    return this.#sum(found)
  }

  /** The same of a piece of memory in this process: the control. */
  inBytes(bytes: Buffer): Record<string, Copies> {
    const found = this.#wanted.map(() => 0)
    new Search(this.#wanted.map(({ needle }) => needle)).count(bytes, found)
    return this.#sum(found)
  }

  #want(name: string, kind: Kind, needle: Buffer): void {
    this.#wanted.push({ name, kind, needle })
  }

  #sum(found: readonly number[]): Record<string, Copies> {
    const copies = Object.fromEntries(this.#names.map((name) => [name, { raw: 0, encoded: 0, fragments: 0 }]))
    for (const [index, { name, kind }] of this.#wanted.entries()) {
      const of = copies[name]!
      const times = found[index]!
      if (kind === 'raw') of.raw += times
      else if (kind === 'fragment') of.fragments += times
      else of.encoded += times
    }
    // Each whole copy holds both of its fragments.
    for (const of of Object.values(copies)) of.fragments = Math.max(0, of.fragments - 2 * of.raw)
    return copies
  }
}

/** What is left of the base64 and base64url of `bytes` where it begins at any place in what is encoded around it. */
function base64Interiors(bytes: Buffer): string[] {
  const texts = [0, 1, 2].map((skipped) => {
    const whole = bytes.subarray(skipped, bytes.length - ((bytes.length - skipped) % 3))
    return whole.toString('base64')
  })
  return [...new Set(texts.flatMap((text) => [text, text.replaceAll('+', '-').replaceAll('/', '_')]))]
}

/** Looks for many needles in one pass: by their first two bytes, of which most memory has none. */
class Search {
  readonly #starts = new Uint8Array(65_536)
  readonly #by = new Map<number, { needle: Buffer; index: number }[]>()

  constructor(needles: readonly Buffer[]) {
    for (const [index, needle] of needles.entries()) {
      const start = needle.readUInt16BE(0)
      this.#starts[start] = 1
      this.#by.set(start, [...(this.#by.get(start) ?? []), { needle, index }])
    }
  }

  count(bytes: Buffer, found: number[]): void {
    const starts = this.#starts
    let pair = bytes[0] ?? 0
    for (let at = 1; at < bytes.length; at++) {
      pair = ((pair << 8) | bytes[at]!) & 0xffff
      if (starts[pair] === 0) continue
      for (const { needle, index } of this.#by.get(pair)!) {
        const from = at - 1
        if (bytes[from + 2] === needle[2] && bytes.subarray(from, from + needle.length).equals(needle))
          found[index]!++
      }
    }
  }
}

const pageBytes = 4096
/** Entries of pagemap read at once: those of 256 MiB. */
const pagesAtOnce = 65_536

/** What is in RAM or swapped of every mapping but the unwritten pages of files: runs of pages, one buffer each. */
function* presentMemory(pid: number): Generator<Buffer> {
  const memory = openSync(`/proc/${pid}/mem`, 'r')
  const pagemap = openSync(`/proc/${pid}/pagemap`, 'r')
  try {
    for (const { first, last } of touchedMappings(pid)) {
      for (let page = first; page < last; page += pagesAtOnce) {
        const entries = Buffer.alloc(Math.min(pagesAtOnce, last - page) * 8)
        readSync(pagemap, entries, 0, entries.length, page * 8)
        for (const [from, to] of presentRuns(entries)) {
          const run = Buffer.allocUnsafeSlow((to - from) * pageBytes)
          readSync(memory, run, 0, run.length, (page + from) * pageBytes)
          yield run
        }
      }
    }
  } finally {
    closeSync(pagemap)
    closeSync(memory)
  }
}

/** Mappings of which a page was ever touched, in pages: V8 reserves address space by the gigabyte. */
function touchedMappings(pid: number): { first: number; last: number }[] {
  const mappings: { first: number; last: number }[] = []
  let current: { first: number; last: number } | null = null
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'latin1').split('\n')) {
    const [, start, end, rights, name] = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)$/.exec(line) ?? []
    if (start !== undefined && end !== undefined) {
      const isCode = name!.startsWith('/') && !rights!.includes('w') && !name!.startsWith('/dev/')
      // The kernel's own pages cannot be read.
      current =
        isCode || name === '[vvar]' || name === '[vvar_vclock]' || name === '[vsyscall]'
          ? null
          : pagesOf(start, end)
    } else if (current !== null && /^(Rss|Swap): +[1-9]/.test(line) && mappings.at(-1) !== current) {
      mappings.push(current)
    }
  }
  return mappings
}

function pagesOf(start: string, end: string): { first: number; last: number } {
  return { first: Number.parseInt(start, 16) / pageBytes, last: Number.parseInt(end, 16) / pageBytes }
}

/** Of pagemap's entries, eight bytes a page, the runs whose pages are in RAM (bit 63) or swapped (bit 62). */
function presentRuns(entries: Buffer): [from: number, to: number][] {
  const runs: [number, number][] = []
  for (let page = 0; page < entries.length / 8; page++) {
    if (entries[page * 8 + 7]! < 0x40) continue
    const last = runs.at(-1)
    if (last?.[1] === page) last[1] = page + 1
    else runs.push([page, page + 1])
  }
  return runs
}
