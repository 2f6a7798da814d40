import type { Colour } from '../text/style.ts'
import { visible } from '../text/visible.ts'
import { cutToWidth, displayWidth, padToWidth } from '../text/width.ts'

/** A piece of a line. Its text is visible: nothing in it moves the cursor. */
export type Span = { readonly text: string; readonly colour?: Colour | null }
/** One line of the screen. */
export type Line = readonly Span[]

/** A column of a list on the screen, in the order of display. */
export type ScreenColumn<Row> = {
  readonly title: string
  /** What stands in a cell of so many columns; may hold anything, it is made visible. */
  readonly value: (row: Row, width: number) => string
  /** Who gets room first: 1 before 2. */
  readonly rank: number
  /**
   * `exact`: as wide as its widest cell, and left out where that has no room, since part of an amount would be another
   * amount. Else it is cut below its content, never below `least`; it is widened to `good` before others come in, and
   * to `most` with what is left.
   */
  readonly size: 'exact' | { readonly least: number; readonly good: number; readonly most: number }
  readonly align?: 'left' | 'right'
  readonly colour?: (row: Row) => Colour | null
}

const gap = '  '

type Size = { readonly least: number; readonly good: number; readonly most: number }

function sizeOf<Row>(column: ScreenColumn<Row>, rows: readonly Row[]): Size {
  if (column.size !== 'exact') return column.size
  const widest = rows.reduce(
    (most, row) => Math.max(most, displayWidth(visible(column.value(row, 0)))),
    displayWidth(column.title),
  )
  return { least: widest, good: widest, most: widest }
}

/** The columns that have room, in the order of display, with their widths. */
export function chooseColumns<Row>(
  columns: readonly ScreenColumn<Row>[],
  rows: readonly Row[],
  available: number,
): { readonly column: ScreenColumn<Row>; readonly width: number }[] {
  const byRank = columns
    .map((column, index) => ({ column, index, width: 0, size: sizeOf(column, rows) }))
    .sort((one, two) => one.column.rank - two.column.rank)
  let left = available + gap.length
  for (const choice of byRank) {
    const { least, good } = choice.size
    if (least + gap.length > left) continue
    choice.width = Math.min(good, left - gap.length)
    left -= choice.width + gap.length
  }
  const chosen = byRank.filter(({ width }) => width > 0)
  // One column each in turn, so that two bars grow alike.
  for (let grew = true; grew && left > 0; ) {
    grew = false
    for (const choice of chosen) {
      if (left === 0 || choice.width >= choice.size.most) continue
      choice.width += 1
      left -= 1
      grew = true
    }
  }
  return chosen.sort((one, two) => one.index - two.index)
}

/** A header and at most `lines - 1` rows, as wide as `available`. */
export function listLines<Row>(
  columns: readonly ScreenColumn<Row>[],
  rows: readonly Row[],
  available: number,
  lines: number,
): Line[] {
  const shown = rows.slice(0, Math.max(0, lines - 1))
  const chosen = chooseColumns(columns, shown, available)
  const cell = (text: string, width: number, align: 'left' | 'right' | undefined): string =>
    padToWidth(cutToWidth(visible(text), width), width, align)
  const join = (spans: readonly Span[]): Line =>
    spans.flatMap((span, index) => (index === 0 ? [span] : [{ text: gap }, span]))
  const header = join(
    chosen.map(({ column, width }) => ({ text: cell(column.title, width, column.align), colour: 'bold' })),
  )
  const body = shown.map((row) =>
    join(
      chosen.map(({ column, width }) => ({
        text: cell(column.value(row, width), width, column.align),
        colour: column.colour?.(row) ?? null,
      })),
    ),
  )
  return [header, ...body].slice(0, lines)
}

/** As many of the spans as have room, two spaces between them; the first one is cut rather than left out. */
export function joinSpans(spans: readonly Span[], available: number): Line {
  const line: Span[] = []
  let used = 0
  for (const { text, colour = null } of spans) {
    const before = line.length === 0 ? 0 : gap.length
    const shown = line.length === 0 ? cutToWidth(visible(text), available) : visible(text)
    if (used + before + displayWidth(shown) > available) continue
    if (before > 0) line.push({ text: gap })
    line.push({ text: shown, colour })
    used += before + displayWidth(shown)
  }
  return line
}

/** A word longer than a line, as pieces that fit one. */
function breakWord(word: string, available: number): string[] {
  const pieces = ['']
  for (const character of word) {
    const longer = `${pieces.at(-1)}${character}`
    if (displayWidth(longer) <= available) pieces[pieces.length - 1] = longer
    else pieces.push(character)
  }
  return pieces
}

/** `text` broken between words, and within those too long for a line, into at most `lines` lines; the last one says by an ellipsis that there was more. */
export function wrap(text: string, available: number, lines: number): string[] {
  const wrapped: string[] = []
  let current = ''
  const words = visible(text)
    .split(' ')
    .flatMap((word) => breakWord(word, available))
  for (const [index, word] of words.entries()) {
    const longer = current === '' ? word : `${current} ${word}`
    if (displayWidth(longer) <= available) current = longer
    else {
      if (current !== '') wrapped.push(current)
      current = word
    }
    if (wrapped.length < lines - 1) continue
    // The last line takes all that is left, cut where it is too long.
    const rest = [current, ...words.slice(index + 1)].join(' ')
    return [...wrapped, cutToWidth(rest, available)].slice(0, lines)
  }
  return [...wrapped, cutToWidth(current, available)].slice(0, lines)
}
