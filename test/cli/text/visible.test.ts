import { describe, expect, test } from 'vitest'
import { visible, visibleJson } from '../../../src/cli/text/visible.ts'

describe('visible', () => {
  test.each([
    ['plain text stays', 'alice@example.com — 東京 é', 'alice@example.com — 東京 é'],
    ['escape sequences', '\x1b[2Jhi\x1b]0;title\x07', '\\x1b[2Jhi\\x1b]0;title\\x07'],
    ['line breaks and tabs', 'a\nb\r\tc\0', 'a\\x0ab\\x0d\\x09c\\x00'],
    ['8-bit controls', '\x9b2J\x85\x7f', '\\x9b2J\\x85\\x7f'],
    ['bidi overrides and isolates', 'a\u202eb\u2066c\u200f', 'a\\u{202e}b\\u{2066}c\\u{200f}'],
    ['zero width and byte order marks', 'a\u200bb\ufeffc\u00ad', 'a\\u{200b}b\\u{feff}c\\xad'],
    ['line and paragraph separators', 'a\u2028b\u2029', 'a\\u{2028}b\\u{2029}'],
    ['letters that are blank', 'a\u3164b', 'a\\u{3164}b'],
    ['tag characters beyond the basic plane', 'a\u{e0041}', 'a\\u{e0041}'],
    ['a lone surrogate', 'a\ud800b', 'a\\u{d800}b'],
  ])('%s', (_name, text, expected) => {
    expect(visible(text)).toBe(expected)
  })
})

describe('visibleJson', () => {
  const nasty = { name: 'a\x9b\u202eb\u2028\x7f\u{e0041}\x1b', list: ['\u200b', 1, null], '\u202e': true }

  test('is the same value to a parser, on one line', () => {
    const text = visibleJson(nasty)
    expect(JSON.parse(text)).toEqual(nasty)
    expect(text).toMatch(/^[\x20-\x7e]*$/)
  })

  test('keeps its own line breaks when indented', () => {
    const text = visibleJson(nasty, 2)
    expect(JSON.parse(text)).toEqual(nasty)
    expect(text.split('\n').length).toBeGreaterThan(3)
    expect(text).toMatch(/^[\x20-\x7e\n]*$/)
  })

  test('an absent answer is null', () => {
    expect(visibleJson(undefined)).toBe('null')
  })
})
