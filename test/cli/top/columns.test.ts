import { describe, expect, test } from 'vitest'
import { chooseColumns, joinSpans, listLines, type ScreenColumn, wrap } from '../../../src/cli/top/columns.ts'

type Row = { name: string; amount: string }
const columns: readonly ScreenColumn<Row>[] = [
  { title: 'N', value: (row) => row.name, rank: 1, size: { least: 4, good: 6, most: 10 } },
  { title: 'BAR', value: (_row, width) => '#'.repeat(width), rank: 2, size: { least: 3, good: 5, most: 20 } },
  { title: 'AMOUNT', value: (row) => row.amount, rank: 3, size: 'exact', align: 'right' },
]
const rows = [{ name: 'alice', amount: '12345.000001' }]
const widths = (available: number): (readonly [string, number])[] =>
  chooseColumns(columns, rows, available).map(({ column, width }) => [column.title, width])

describe('chooseColumns', () => {
  test('by rank, exact ones whole or not at all, the rest shared', () => {
    expect(widths(40)).toEqual([
      ['N', 10],
      ['BAR', 14],
      ['AMOUNT', 12],
    ])
    expect(widths(27)).toEqual([
      ['N', 6],
      ['BAR', 5],
      ['AMOUNT', 12],
    ])
    expect(widths(26)).toEqual([
      ['N', 10],
      ['BAR', 14],
    ])
    expect(widths(8)).toEqual([['N', 8]])
    expect(widths(3)).toEqual([['BAR', 3]])
    expect(widths(2)).toEqual([])
  })
})

describe('listLines', () => {
  const textOf = (available: number, lines: number): string[] =>
    listLines(columns, rows, available, lines).map((line) => line.map(({ text }) => text).join(''))

  test('a header and rows, cut and padded, at most so many lines', () => {
    expect(textOf(27, 5)).toEqual(['N       BAR          AMOUNT', 'alice   #####  12345.000001'])
    expect(textOf(27, 1)).toHaveLength(1)
    expect(textOf(27, 0)).toEqual([])
  })
})

describe('joinSpans', () => {
  test('leaves out what has no room, cuts the first alone, escapes all', () => {
    const text = (available: number): string =>
      joinSpans([{ text: 'one\x1b' }, { text: 'a long one' }, { text: 'two' }], available)
        .map((span) => span.text)
        .join('')
    expect(text(40)).toBe('one\\x1b  a long one  two')
    expect(text(12)).toBe('one\\x1b  two')
    expect(text(4)).toBe('one…')
  })
})

describe('wrap', () => {
  test('between words, within long ones, and says where there was more', () => {
    expect(wrap('no socket at the place', 10, 5)).toEqual(['no socket', 'at the', 'place'])
    expect(wrap('/run/user/1000/x', 6, 5)).toEqual(['/run/u', 'ser/10', '00/x'])
    expect(wrap('one two three four', 5, 2)).toEqual(['one', 'two …'])
    expect(wrap('one two', 20, 1)).toEqual(['one two'])
    expect(wrap('', 20, 3)).toEqual([''])
    expect(wrap('東京東京', 4, 3)).toEqual(['東京', '東京'])
  })
})
