import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { LineBuffer, lineBytesMax } from '../../src/transport/line-buffer.ts'
import { testSeed } from '../flows/story.ts'

const seed = testSeed()

/** Feeds `chunks` as a connection does, and takes every line as soon as it is there; `too-long` ends it. */
function linesOf(chunks: readonly Buffer[], lengthMax = lineBytesMax): string[] {
  const buffer = new LineBuffer()
  const lines: string[] = []
  for (const chunk of chunks) {
    const shared = Buffer.from(chunk)
    buffer.push(shared)
    for (;;) {
      const soon = buffer.take(lengthMax)
      const line = soon === 'later' ? buffer.take(lineBytesMax) : soon
      if (line === null || line === 'later') break
      if (line === 'too-long') return [...lines, 'TOO LONG']
      lines.push(line.toString('latin1'))
      line.fill(0)
    }
    buffer.compact()
    // As the connection's one read buffer is, before the next connection reads into it.
    shared.fill(0)
  }
  return lines
}

/** The same from the whole text at once. */
function expectedLines(text: string): string[] {
  const lines: string[] = []
  for (const line of text.split('\n').slice(0, -1)) {
    if (line.length > lineBytesMax) return [...lines, 'TOO LONG']
    if (/[^ \t\r]/.test(line)) lines.push(line)
  }
  if (text.length - text.lastIndexOf('\n') - 1 > lineBytesMax) lines.push('TOO LONG')
  return lines
}

function cut(text: string, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (text.length + 1)))].sort((a, b) => a - b)
  return [0, ...at].map((start, n) => Buffer.from(text.slice(start, at[n] ?? text.length), 'latin1'))
}

test('lines are the same wherever the chunks end', () => {
  const piece = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.string({
        unit: fc.constantFrom('a', ' ', '\t', '\r', '\n', '{', '\u00e9'),
        maxLength: 30,
      }),
    },
    { weight: 1, arbitrary: fc.nat(lineBytesMax + 10).map((length) => 'x'.repeat(length)) },
    { weight: 1, arbitrary: fc.nat(lineBytesMax + 10).map((length) => ' '.repeat(length)) },
    { weight: 1, arbitrary: fc.constantFrom('\n', '\n\n\n', 'x'.repeat(lineBytesMax), '\n '.repeat(3000)) },
  )
  const text = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''))
  fc.assert(
    fc.property(text, fc.array(fc.nat(200_000), { maxLength: 8 }), fc.nat(5000), (all, places, lengthMax) => {
      const expected = expectedLines(all)
      expect(linesOf(cut(all, places), lengthMax)).toEqual(expected)
      expect(linesOf(cut(all, places))).toEqual(expected)
    }),
    { seed, numRuns: 400 },
  )
})

describe('take', () => {
  test('leaves a line for later that is longer than is asked for, and does not lose it', () => {
    const buffer = new LineBuffer()
    buffer.push(Buffer.from('short\nsomewhat longer\nx\n'))
    expect(buffer.take(10)?.toString()).toBe('short')
    expect(buffer.take(10)).toBe('later')
    expect(buffer.take(10)).toBe('later')
    buffer.compact()
    expect(buffer.take(10)).toBe('later')
    expect(buffer.take(15)?.toString()).toBe('somewhat longer')
    expect(buffer.take(0)).toBe('later')
    expect(buffer.take(1)?.toString()).toBe('x')
    expect(buffer.take(1)).toBeNull()
  })

  test('says that a line is too long as soon as it is', () => {
    const buffer = new LineBuffer()
    buffer.push(Buffer.from('x'.repeat(lineBytesMax)))
    expect(buffer.take(lineBytesMax)).toBeNull()
    buffer.compact()
    buffer.push(Buffer.from('x'))
    expect(buffer.take(lineBytesMax)).toBe('too-long')
  })
})

test('a line that comes byte by byte is not searched over and over', () => {
  for (const byte of ['x', ' ']) {
    const startedAt = performance.now()
    const lines = linesOf([...`${byte.repeat(lineBytesMax - 1)}y\n`].map((letter) => Buffer.from(letter)))
    expect(lines).toEqual([`${byte.repeat(lineBytesMax - 1)}y`])
    // Looking at all of it again for each byte would be 2 * 10^9 steps.
    expect(performance.now() - startedAt).toBeLessThan(2000)
  }
})

test('wiped means wiped: nothing of what was taken or dropped is left in what it kept', () => {
  const kept: Buffer[] = []
  const original = ArrayBuffer
  // Every buffer that LineBuffer makes, for a look at it afterwards.
  globalThis.ArrayBuffer = class extends original {
    constructor(length: number) {
      super(length)
      kept.push(Buffer.from(this as ArrayBuffer))
    }
  } as typeof ArrayBuffer
  try {
    const buffer = new LineBuffer()
    for (const chunk of [
      'SECRET'.repeat(50),
      'SECRET'.repeat(500),
      'SECRET\nSECRET\nSECR',
      'ET'.repeat(20_000),
      '\nSECRET',
    ]) {
      buffer.push(Buffer.from(chunk))
      for (let line = buffer.take(lineBytesMax); line instanceof Buffer; line = buffer.take(lineBytesMax))
        line.fill(0)
      buffer.compact()
    }
    buffer.clear()
  } finally {
    globalThis.ArrayBuffer = original
  }
  expect(kept.length).toBeGreaterThan(2)
  for (const bytes of kept) expect(bytes.every((byte) => byte === 0)).toBe(true)
})

test('room for a long line is given back once it is not in use', () => {
  const sizes: number[] = []
  const original = ArrayBuffer
  globalThis.ArrayBuffer = class extends original {
    constructor(length: number) {
      super(length)
      sizes.push(length)
    }
  } as typeof ArrayBuffer
  try {
    const buffer = new LineBuffer()
    buffer.push(Buffer.from('x'.repeat(60_000)))
    buffer.compact()
    buffer.push(Buffer.from('\nrest'))
    expect(buffer.take(lineBytesMax)).toHaveLength(60_000)
    buffer.compact()
    expect(buffer.length).toBe(4)
    expect(sizes.at(-1)).toBeLessThan(4096)
  } finally {
    globalThis.ArrayBuffer = original
  }
})
