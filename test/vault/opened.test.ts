import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { decodeSecrets, encodeSecrets } from '../../src/vault/credential-secrets.ts'
import { OpenedCache } from '../../src/vault/opened-cache.ts'
import { OpenedCredential, privateKeyHex } from '../../src/vault/opened-credential.ts'
import { secrets } from './support.ts'

function open(): OpenedCredential {
  const memory = encodeSecrets(secrets)
  return new OpenedCredential(memory, decodeSecrets(memory)!, 1)
}

/** Whether its memory was given back; looks without holding it. */
function isWiped(opened: OpenedCredential): boolean {
  try {
    return opened.apiSecret.length === 0
  } catch {
    return true
  }
}

const minuteMs = 60_000

describe('OpenedCredential', () => {
  test('is wiped by the last release and not before', () => {
    const opened = open()
    const view = opened.apiSecret
    opened.retain().retain()
    opened.release()
    opened.release()
    expect(view.equals(secrets.apiSecret)).toBe(true)
    opened.release()
    expect(view).toHaveLength(0)
    expect(isWiped(opened)).toBe(true)
  })

  test('is not used after that, nor released twice', () => {
    const opened = open()
    opened.release()
    const uses = [
      () => opened.apiKey,
      () => opened.apiSecret,
      () => opened.passphrase,
      () => opened.privateKey,
      () => opened.retain(),
      () => opened.release(),
    ]
    for (const use of uses) expect(use).toThrow('the opened credential was released')
  })

  test('shows no secret however it is printed', async () => {
    const { inspect } = await import('node:util')
    const opened = open()
    const printed = `${inspect(opened, { depth: 9, showHidden: true, getters: false })} ${JSON.stringify(opened)} ${opened}`
    expect(printed).not.toContain(secrets.apiKey.toString())
    expect(printed).not.toContain('Buffer')
    opened.release()
  })
})

describe('privateKeyHex', () => {
  test('is 0x and the digits in lower case', () => {
    const key = Buffer.from(Array.from({ length: 32 }, (_, index) => (index * 37 + 0x0f) & 0xff))
    expect(privateKeyHex(key).toString()).toBe(`0x${key.toString('hex')}`)
    const every = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
    expect(privateKeyHex(every).toString()).toBe(`0x${every.toString('hex')}`)
  })

  test('lies in memory of its own', () => {
    const text = privateKeyHex(secrets.privateKey!)
    expect(text.buffer.byteLength).toBe(66)
  })
})

describe('OpenedCache', () => {
  test('gives what it holds to any number of holders, and counts', () => {
    const cache = new OpenedCache({ maxEntries: 10, ttlMs: minuteMs })
    const opened = open()
    expect(cache.get(7, 1)).toBeNull()
    cache.set(7, 1, opened)
    opened.release()
    const [one, two] = [cache.get(7, 1), cache.get(7, 1)]
    expect(one).toBe(opened)
    expect(two).toBe(opened)
    expect([cache.size, cache.hits, cache.misses]).toEqual([1, 2, 1])
    one!.release()
    two!.release()
    expect(isWiped(opened)).toBe(false)
    cache.clear()
    expect(isWiped(opened)).toBe(true)
    expect(cache.size).toBe(0)
  })

  test.each<[string, (cache: OpenedCache) => void]>([
    ['drop', (cache) => cache.drop(7)],
    ['clear', (cache) => cache.clear()],
    ['a later revision', (cache) => void cache.get(7, 2)],
    [
      'eviction',
      (cache) => {
        for (const id of [8, 9]) {
          const other = open()
          cache.set(id, 1, other)
          other.release()
        }
      },
    ],
    [
      'an entry in its place',
      (cache) => {
        const other = open()
        cache.set(7, 2, other)
        other.release()
      },
    ],
  ])('a request that holds one reads intact bytes after %s, and its release wipes', (_name, act) => {
    const cache = new OpenedCache({ maxEntries: 2, ttlMs: minuteMs })
    const opened = open()
    cache.set(7, 1, opened)
    opened.release()
    const held = cache.get(7, 1)!
    act(cache)
    expect(cache.get(7, 1)).toBeNull()
    expect(held.apiSecret.equals(secrets.apiSecret)).toBe(true)
    expect(held.privateKey?.equals(secrets.privateKey!)).toBe(true)
    held.release()
    expect(isWiped(held)).toBe(true)
    cache.clear()
  })

  test('an opening that was overtaken neither replaces nor drops the later revision', () => {
    const cache = new OpenedCache({ maxEntries: 2, ttlMs: minuteMs })
    const [early, late] = [open(), open()]
    cache.set(7, 2, late)
    cache.set(7, 1, early)
    expect(cache.get(7, 1)).toBeNull()
    expect(cache.get(7, 2)).toBe(late)
    late.release()
    late.release()
    early.release()
    expect(isWiped(early)).toBe(true)
    expect(isWiped(late)).toBe(false)
    cache.clear()
    expect(isWiped(late)).toBe(true)
  })

  test('the same one set twice is held once', () => {
    const cache = new OpenedCache({ maxEntries: 2, ttlMs: minuteMs })
    const opened = open()
    cache.set(7, 1, opened)
    cache.set(7, 1, opened)
    opened.release()
    expect(isWiped(opened)).toBe(false)
    cache.drop(7)
    expect(isWiped(opened)).toBe(true)
  })

  test('wipes an entry when its time is up, counted from the opening and though nobody asks', async () => {
    const cache = new OpenedCache({ maxEntries: 2, ttlMs: 300 })
    const opened = open()
    const ageMs = () => performance.now() - opened.openedAtMs
    await delay(250)
    cache.set(7, 1, opened)
    opened.release()
    // Asking must not make it live longer.
    expect(cache.get(7, 1)?.release()).toBeUndefined()
    expect(cache.hits).toBe(1)
    while (!isWiped(opened) && ageMs() < 5000) await delay(5)
    expect(ageMs()).toBeGreaterThanOrEqual(299)
    // Counted from when it was set or asked for, it would live for 550 ms.
    expect(ageMs()).toBeLessThan(500)
    expect(cache.size).toBe(0)
  })

  test('does not keep what was opened longer ago than its time', async () => {
    const cache = new OpenedCache({ maxEntries: 2, ttlMs: 5 })
    const opened = open()
    await delay(20)
    cache.set(7, 1, opened)
    expect(cache.size).toBe(0)
    opened.release()
    expect(isWiped(opened)).toBe(true)
  })

  test.each([
    ['no time', { maxEntries: 10, ttlMs: 0 }],
    ['no entries', { maxEntries: 0, ttlMs: minuteMs }],
  ])('%s turns it off', (_name, options) => {
    const cache = new OpenedCache(options)
    const opened = open()
    cache.set(7, 1, opened)
    expect(cache.get(7, 1)).toBeNull()
    expect([cache.size, cache.hits, cache.misses]).toEqual([0, 0, 1])
    cache.drop(7)
    cache.clear()
    opened.release()
    expect(isWiped(opened)).toBe(true)
  })

  test('keeps no more than leaves secure memory to open others', () => {
    const cache = new OpenedCache({ maxEntries: 1_000_000, ttlMs: minuteMs })
    for (let id = 1; id <= 5000; id++) {
      const opened = open()
      cache.set(id, 1, opened)
      opened.release()
    }
    expect([cache.size, cache.maxEntries]).toEqual([4096, 4096])
    cache.clear()
  })

  test('refuses bounds that make no sense', () => {
    expect(() => new OpenedCache({ maxEntries: 1.5, ttlMs: 1 })).toThrow(RangeError)
    expect(() => new OpenedCache({ maxEntries: 1, ttlMs: 2 ** 31 })).toThrow(RangeError)
    expect(() => new OpenedCache({ maxEntries: 1, ttlMs: Number.NaN })).toThrow(RangeError)
  })
})
