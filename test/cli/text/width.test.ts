import { describe, expect, test } from 'vitest'
import { cutToWidth, displayWidth, padToWidth } from '../../../src/cli/text/width.ts'

describe('displayWidth', () => {
  test.each([
    ['abc', 3],
    ['', 0],
    ['東京', 4],
    ['한글', 4],
    ['ａ', 2],
    ['é', 1],
    ['é', 1],
    ['🚀x', 3],
    ['…—', 2],
  ])('%s', (text, width) => {
    expect(displayWidth(text)).toBe(width)
  })
})

describe('cutToWidth', () => {
  test('leaves alone what fits', () => {
    expect(cutToWidth('abc', 3)).toBe('abc')
  })

  test('ends in an ellipsis where something was cut', () => {
    expect(cutToWidth('abcdef', 4)).toBe('abc…')
    expect(cutToWidth('abcdef', 1)).toBe('…')
  })

  test('never passes the width, also in the middle of a wide character', () => {
    for (let columns = 1; columns < 12; columns++)
      expect(displayWidth(cutToWidth('東京特許許可局a', columns))).toBeLessThanOrEqual(columns)
  })
})

test('padToWidth counts columns, not characters', () => {
  expect(padToWidth('東', 4)).toBe('東  ')
  expect(padToWidth('7', 3, 'right')).toBe('  7')
  expect(padToWidth('long', 2)).toBe('long')
})
