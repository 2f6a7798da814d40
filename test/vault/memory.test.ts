import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { argon2Sync, createHash, randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addressOfPrivateKey, isValidPrivateKey } from '../../src/signer/address.ts'
import { lengthPrefixed } from '../../src/vault/length-prefixed.ts'

/**
 * How often each secret stands in the memory of another process, read from outside through /proc. The child runs the
 * vault as the launcher would start it, with malloc filling what is freed.
 */
const environment = {
  ...process.env,
  GLIBC_TUNABLES: 'glibc.malloc.perturb=85:glibc.malloc.tcache_count=0',
}

const masterKey = randomBytes(32)
const apiSecret = randomBytes(48)
const privateKey = validKey()

let child: ChildProcessByStdio<Writable, Readable, null>
let lines: AsyncIterator<string>

beforeAll(() => {
  const flags = ['--expose-gc', 'test/vault/memory-child.ts']
  const stdio = ['pipe', 'pipe', 'inherit', 'pipe'] as const
  child = spawn(process.execPath, flags, { stdio: [...stdio], env: environment }) as typeof child
  lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  ;(child.stdio[3] as Writable).end(Buffer.concat([masterKey, apiSecret, privateKey]))
})

afterAll(() => void child.kill())

function validKey(): Buffer {
  const key = randomBytes(32)
  return isValidPrivateKey(key) ? key : validKey()
}

async function say(word: string): Promise<string> {
  child.stdin.write(`${word}\n`)
  const { value } = await lines.next()
  return value
}

const pageBytes = 4096

/** The pages the process can write to and has written: secrets are nowhere else. Runs of pages, one buffer each. */
function writtenMemory(pid: number): Buffer[] {
  const memory = openSync(`/proc/${pid}/mem`, 'r')
  const pagemap = openSync(`/proc/${pid}/pagemap`, 'r')
  const runs: Buffer[] = []
  for (const line of readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
    const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
    if (start === undefined || end === undefined) continue
    const first = Number.parseInt(start, 16) / pageBytes
    const entries = Buffer.alloc((Number.parseInt(end, 16) / pageBytes - first) * 8)
    readSync(pagemap, entries, 0, entries.length, first * 8)
    for (const [from, to] of presentRuns(entries)) {
      const run = Buffer.alloc((to - from) * pageBytes)
      readSync(memory, run, 0, run.length, (first + from) * pageBytes)
      runs.push(run)
    }
  }
  closeSync(pagemap)
  closeSync(memory)
  return runs
}

/** Of pagemap's entries, eight bytes a page, the runs whose pages are in RAM (bit 63) or swapped (bit 62). */
function presentRuns(entries: Buffer): [from: number, to: number][] {
  const runs: [number, number][] = []
  for (let page = 0; page < entries.length / 8; page++) {
    if (entries.readUInt8(page * 8 + 7) < 0x40) continue
    const last = runs.at(-1)
    if (last?.[1] === page) last[1] = page + 1
    else runs.push([page, page + 1])
  }
  return runs
}

function count(needle: Buffer, regions: readonly Buffer[]): number {
  let found = 0
  for (const region of regions) {
    for (let at = region.indexOf(needle); at >= 0; at = region.indexOf(needle, at + 1)) found += 1
  }
  return found
}

/** Copies of each secret, and of the halves a partly overwritten copy would leave. */
function copies() {
  const regions = writtenMemory(child.pid!)
  const whole = (secret: Buffer) => count(secret, regions)
  const halves = (secret: Buffer) => {
    const middle = secret.length >> 1
    return Math.max(count(secret.subarray(0, middle), regions), count(secret.subarray(middle), regions))
  }
  return {
    masterKey: halves(masterKey),
    apiSecret: halves(apiSecret),
    // OpenSSL's numbers are little-endian.
    privateKey: halves(privateKey) + whole(Buffer.from(privateKey).reverse()),
    privateKeyHex: whole(Buffer.from(privateKey.toString('hex'))),
  }
}

/** The key of an envelope the child sealed, derived by OpenSSL. */
function kekOf(envelope: Buffer): Buffer {
  return argon2Sync('argon2id', {
    message: Buffer.alloc(0),
    nonce: envelope.subarray(13, 29),
    secret: masterKey,
    associatedData: lengthPrefixed(['purser key encryption key', Buffer.of(1), 'alice']),
    parallelism: 1,
    tagLength: 32,
    memory: envelope.readUInt32BE(5),
    passes: envelope.readUInt32BE(9),
  })
}

function copiesOfKek(kek: Buffer): number {
  const regions = writtenMemory(child.pid!)
  return count(kek.subarray(0, 16), regions) + count(kek.subarray(16), regions)
}

const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex')
const sealedOnly = { masterKey: 1, apiSecret: 0, privateKey: 0, privateKeyHex: 0 }
const oneOpened = { ...sealedOnly, apiSecret: 1, privateKey: 1 }

describe('memory of a process that seals, opens, caches and closes', () => {
  test('after the first sealing it holds the master key once, no secret and no key of the envelope', async () => {
    const kek = kekOf(Buffer.from(await say('seal'), 'hex'))
    expect(copies()).toEqual(sealedOnly)
    expect(copiesOfKek(kek)).toBe(0)
  })

  test('opened, it holds each secret once, whatever is done with it', async () => {
    expect(await say('open')).toBe('1')
    expect(copies()).toEqual(oneOpened)
    expect(await say('address')).toBe(addressOfPrivateKey(privateKey))
    expect(copies()).toEqual(oneOpened)
    expect(await say('hex')).toBe(sha256(`0x${privateKey.toString('hex')}`))
    expect(copies()).toEqual(oneOpened)
    expect(await say('tamper')).toBe('refused')
    expect(copies()).toEqual(oneOpened)
  })

  test('dropped from the cache it stays intact for the request that holds it, and goes with its release', async () => {
    expect(await say('drop')).toBe('0')
    expect(await say('read')).toBe(sha256(apiSecret))
    expect(copies()).toEqual(oneOpened)
    expect(await say('release')).toBe('released')
    expect(copies()).toEqual(sealedOnly)
  })

  test('resealing leaves nothing behind', async () => {
    const kek = kekOf(Buffer.from(await say('reseal'), 'hex'))
    expect(copies()).toEqual(sealedOnly)
    expect(copiesOfKek(kek)).toBe(0)
  })

  test('closed and collected, nothing is left', async () => {
    expect(await say('close')).toBe('closed')
    expect(await say('gc')).toBe('collected')
    expect(copies()).toEqual({ ...sealedOnly, masterKey: 0 })
  })
})
