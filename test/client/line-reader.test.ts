import { describe, expect, test } from 'vitest'
import { ProtocolError } from '../../src/client/errors.ts'
import { LineReader } from '../../src/client/line-reader.ts'

function read(chunks: readonly Buffer[], maxLineBytes = 1024): string[] {
  const lines: string[] = []
  const reader = new LineReader(maxLineBytes, (line) => lines.push(line))
  for (const chunk of chunks) reader.push(Buffer.from(chunk))
  return lines
}

describe('LineReader', () => {
  const text = Buffer.from('{"a":"é€𝄞"}\n\n{"b":2}\n')
  const lines = ['{"a":"é€𝄞"}', '', '{"b":2}']

  test('gives the same lines wherever the stream is cut in two', () => {
    for (let at = 0; at <= text.length; at += 1)
      expect(read([text.subarray(0, at), text.subarray(at)]), `cut at ${at}`).toEqual(lines)
  })

  test('gives the same lines byte by byte', () => {
    expect(read([...text].map((byte) => Buffer.from([byte])))).toEqual(lines)
  })

  test('keeps nothing of a chunk that is wiped after push', () => {
    const seen: string[] = []
    const reader = new LineReader(1024, (line) => seen.push(line))
    const chunk = Buffer.from('half a ')
    reader.push(chunk)
    chunk.fill(0)
    reader.push(Buffer.from('line\n'))
    expect(seen).toEqual(['half a line'])
    expect(reader.pendingBytes).toBe(0)
  })

  test.each([
    ['in one chunk', [Buffer.from(`${'x'.repeat(11)}\n`)]],
    ['in two chunks', [Buffer.from('x'.repeat(6)), Buffer.from(`${'x'.repeat(5)}\n`)]],
    ['without an end', [Buffer.from('x'.repeat(11))]],
  ])('refuses a line over the maximum %s', (_name, chunks) => {
    expect(() => read(chunks, 10)).toThrow(ProtocolError)
  })

  test('takes a line of exactly the maximum', () => {
    expect(read([Buffer.from(`${'x'.repeat(10)}\n`)], 10)).toEqual(['x'.repeat(10)])
    expect(read([Buffer.from('x'.repeat(4)), Buffer.from(`${'x'.repeat(6)}\n`)], 10)).toEqual([
      'x'.repeat(10),
    ])
  })

  test.each([
    ['an overlong form', [0xc0, 0xaf]],
    ['a lone surrogate', [0xed, 0xa0, 0x80]],
    ['a cut sequence', [0xe2, 0x82]],
    ['a stray byte', [0xff]],
  ])('refuses %s', (_name, bytes) => {
    expect(() => read([Buffer.from([...bytes, 0x0a])])).toThrow(/not valid UTF-8/)
  })

  test('forgets an unfinished line when cleared', () => {
    const seen: string[] = []
    const reader = new LineReader(1024, (line) => seen.push(line))
    reader.push(Buffer.from('unfinished'))
    reader.clear()
    reader.push(Buffer.from('whole\n'))
    expect(seen).toEqual(['whole'])
  })

  test('a line of a million one-byte chunks takes no more memory than its doubling', () => {
    const reader = new LineReader(2_000_000, () => {})
    const byte = Buffer.from('x')
    const before = process.memoryUsage().arrayBuffers
    for (let count = 0; count < 1_000_000; count += 1) reader.push(byte)
    expect(reader.pendingBytes).toBe(1_000_000)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8_000_000)
  })
})
