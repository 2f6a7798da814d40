import type { Colour, Paint } from './style.ts'
import { visible } from './visible.ts'
import { cutToWidth, displayWidth, padToWidth } from './width.ts'

/** One column of a table for people. `value` may hold anything: it is made visible here. */
export type Column<Row> = {
  readonly title: string
  readonly value: (row: Row) => string
  readonly align?: 'left' | 'right'
  /** The whole cell is worth more than the others': cut only when cutting all others was not enough. */
  readonly keep?: boolean
  /** Never cut, not even there: part of an amount would be another amount. The line is longer than the terminal then. */
  readonly whole?: boolean
  /** Columns it gets however short the cells seen so far are: room for cells of later pages. */
  readonly least?: number
  readonly colour?: (row: Row) => Colour | null
}

const gap = '  '
/** Below this a cell says nothing any more. */
const leastColumns = 6
/** What a kept column may still be cut to on a very narrow terminal. */
const leastKeptColumns = 3

/** Takes columns from the widest of `candidates` until the sum fits into `available` or all are at `least`. */
function shrink(widths: number[], candidates: readonly number[], least: number, available: number): void {
  let excess = widths.reduce((sum, width) => sum + width, 0) - available
  while (excess > 0) {
    let widest = -1
    for (const index of candidates) {
      const width = widths[index] ?? 0
      if (width > least && (widest < 0 || width > (widths[widest] ?? 0))) widest = index
    }
    if (widest < 0) return
    widths[widest] = (widths[widest] ?? 0) - 1
    excess -= 1
  }
}

/** Widths that fit `terminalColumns` (null: no terminal, nothing is cut) for the rows seen so far. */
export function fitColumns<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  terminalColumns: number | null,
): number[] {
  const widths = columns.map((column) =>
    rows.reduce(
      (most, row) => Math.max(most, displayWidth(visible(column.value(row)))),
      Math.max(displayWidth(column.title), column.least ?? 0),
    ),
  )
  if (terminalColumns === null) return widths
  const available = terminalColumns - gap.length * (columns.length - 1)
  const cuttable = columns.flatMap((column, index) => (column.whole === true ? [] : [index]))
  shrink(
    widths,
    cuttable.filter((index) => columns[index]?.keep !== true),
    leastColumns,
    available,
  )
  shrink(widths, cuttable, leastKeptColumns, available)
  // The last column takes what is left, for longer cells of later pages; ends of lines are trimmed anyway.
  const left = available - widths.reduce((sum, width) => sum + width, 0)
  const last = widths.length - 1
  if (left > 0 && columns[last]?.align !== 'right') widths[last] = (widths[last] ?? 0) + left
  return widths
}

/**
 * A table printed page by page: the first page decides the widths, so that a long list needs no more memory than a
 * page. Answers the function that makes the lines of a page; the first call puts the header before them.
 */
export function createTable<Row>(
  columns: readonly Column<Row>[],
  options: { readonly terminalColumns: number | null; readonly paint: Paint },
): (rows: readonly Row[]) => string {
  let widths: number[] | null = null
  const cut = options.terminalColumns !== null
  const line = (cells: readonly string[], colours: readonly (Colour | null)[], fitted: number[]): string =>
    cells
      .map((cell, index) => {
        const width = fitted[index] ?? 0
        const text = cut && columns[index]?.whole !== true ? cutToWidth(cell, width) : cell
        const padded = padToWidth(text, width, columns[index]?.align)
        const colour = colours[index] ?? null
        return colour === null ? padded : options.paint(colour, padded)
      })
      .join(gap)
      .trimEnd()
  return (rows) => {
    const lines: string[] = []
    if (widths === null) {
      widths = fitColumns(columns, rows, options.terminalColumns)
      const bold = columns.map((): Colour => 'bold')
      lines.push(
        line(
          columns.map((column) => column.title),
          bold,
          widths,
        ),
      )
    }
    for (const row of rows) {
      const cells = columns.map((column) => visible(column.value(row)))
      const colours = columns.map((column) => column.colour?.(row) ?? null)
      lines.push(line(cells, colours, widths))
    }
    return lines.map((text) => `${text}\n`).join('')
  }
}
