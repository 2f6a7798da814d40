import { describe, expect, test } from 'vitest'
import { createPaint } from '../../../src/cli/text/style.ts'
import { type Column, createTable } from '../../../src/cli/text/table.ts'
import { displayWidth } from '../../../src/cli/text/width.ts'

type Row = { id: number; name: string; note: string }
const columns: readonly Column<Row>[] = [
  { title: 'ID', value: (row) => String(row.id), align: 'right', keep: true },
  { title: 'NAME', value: (row) => row.name },
  {
    title: 'NOTE',
    value: (row) => row.note,
    colour: (row) => (row.note === 'bad' ? 'red' : null),
  },
]
const plain = createPaint(false, {})
const rows: Row[] = [
  { id: 7, name: 'alice', note: 'ok' },
  { id: 123, name: '東京', note: 'bad' },
]

describe('createTable', () => {
  test('aligns by display width, without spaces at line ends', () => {
    expect(createTable(columns, { terminalColumns: null, paint: plain })(rows)).toBe(
      [' ID  NAME   NOTE', '  7  alice  ok', '123  東京   bad', ''].join('\n'),
    )
  })

  test('escapes what would move the cursor or turn text round', () => {
    const text = createTable(columns, { terminalColumns: null, paint: plain })([
      { id: 1, name: 'x\x1b[31m\n', note: '\u202e' },
    ])
    expect(text.split('\n')).toHaveLength(3)
    expect(text).toContain('x\\x1b[31m\\x0a')
    expect(text).toContain('\\u{202e}')
  })

  test('cuts columns to the terminal, the kept ones last', () => {
    const long: Row = { id: 123_456_789, name: 'n'.repeat(60), note: 'm'.repeat(60) }
    for (const terminalColumns of [80, 60, 40, 30]) {
      const lines = createTable(columns, { terminalColumns, paint: plain })([long]).trimEnd().split('\n')
      for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(terminalColumns)
      expect(lines[1]).toContain('123456789')
      expect(lines[1]).toContain('…')
    }
  })

  test('cuts nothing where stdout is no terminal', () => {
    const long: Row = { id: 1, name: 'n'.repeat(500), note: 'm' }
    expect(createTable(columns, { terminalColumns: null, paint: plain })([long])).toContain('n'.repeat(500))
  })

  test('prints the header once and keeps the widths of the first page', () => {
    const table = createTable(columns, { terminalColumns: 40, paint: plain })
    expect(table([{ id: 1, name: 'al', note: 'x' }])).toContain('NAME')
    const second = table([
      { id: 2, name: 'a much longer name', note: 'later notes have the rest of the line' },
    ])
    expect(second).not.toContain('NAME')
    expect(second.split('\n')).toHaveLength(2)
    expect(displayWidth(second.trimEnd())).toBeLessThanOrEqual(40)
    expect(second).toContain('later notes')
  })

  test('what is whole is never cut, on later pages neither: the line is longer then', () => {
    const whole = columns.map((column) => (column.title === 'NAME' ? { ...column, whole: true } : column))
    const table = createTable(whole, { terminalColumns: 30, paint: plain })
    expect(table([{ id: 1, name: '123456789012.000001', note: 'n'.repeat(30) }])).toContain(
      '1  123456789012.000001  nnn',
    )
    expect(table([{ id: 2, name: `9${'0'.repeat(40)}.000001`, note: 'x' }])).toContain(
      `9${'0'.repeat(40)}.000001`,
    )
  })

  test('colours only where the paint does', () => {
    const coloured = createTable(columns, { terminalColumns: null, paint: createPaint(true, {}) })(rows)
    expect(coloured).toContain('\x1b[31mbad')
    expect(createTable(columns, { terminalColumns: null, paint: plain })(rows)).not.toContain('\x1b')
  })
})

describe('createPaint', () => {
  test.each([
    ['a terminal', true, {}, true],
    ['no terminal', false, {}, false],
    ['NO_COLOR', true, { NO_COLOR: '1' }, false],
    ['an empty NO_COLOR counts as unset', true, { NO_COLOR: '' }, true],
    ['a dumb terminal', true, { TERM: 'dumb' }, false],
  ])('%s', (_name, isTerminal, env, colours) => {
    expect(createPaint(isTerminal, env)('red', 'x').includes('\x1b')).toBe(colours)
  })
})
