import type { Paint } from '../text/style.ts'
import { cutToWidth, displayWidth, padToWidth } from '../text/width.ts'
import { joinSpans, type Line, listLines, type Span, wrap } from './columns.ts'
import { clockText, durationText, entryColumns, reservationColumns, userColumns } from './lists.ts'
import { type Away, mostUsedPercent, type TopData, type TopState } from './state.ts'

/** Columns and rows of the screen. */
export type ScreenSize = { readonly columns: number; readonly rows: number }

/** Below these a list is not worth its header. */
const leastListLines = 2
/** From here on there is room for a blank line between the parts. */
const roomyRows = 20
/** A user's limit used up this far is counted at the top. */
const watchPercent = 80
/** Lines a message gets at most: a path may be long. */
const messageLines = 3

/** `0.4`, `12`, `1234`: requests per second. */
function rateText(perSecond: number): string {
  return perSecond < 10 ? perSecond.toFixed(1) : String(Math.round(perSecond))
}

function timeOfDay(atMs: number): string {
  return clockText(new Date(atMs).toISOString())
}

function titleLine({ data, away, nowMs }: TopState, columns: number): Line {
  const clock = `${timeOfDay(nowMs)} UTC`
  const health: Span =
    away !== null
      ? { text: 'away', colour: 'red' }
      : data === null
        ? { text: 'looking' }
        : { text: data.health.status, colour: data.health.status === 'ok' ? 'green' : 'red' }
  const version = data === null ? 'purser' : `purser ${data.version}`
  const up: Span[] = data === null ? [] : [{ text: `up ${durationText(data.uptimeSeconds * 1000)}` }]
  const spans = [{ text: version, colour: 'bold' as const }, health, ...up]
  const line = joinSpans([...spans, { text: 'q quits', colour: 'dim' }], columns)
  const room = columns - displayWidth(line.map(({ text }) => text).join(''))
  return room > clock.length + 1 ? [...line, { text: padToWidth(clock, room, 'right') }] : line
}

function loadLine({ rates, connections, inFlight }: TopData, columns: number): Line {
  if (rates === null)
    return joinSpans([{ text: 'requests -/s' }, { text: `connections ${connections}` }], columns)
  const refused = `refused ${rateText(rates.refused)}/s`
  return joinSpans(
    [
      { text: `requests ${rateText(rates.requests)}/s` },
      { text: refused, colour: rates.refused > 0 ? 'yellow' : null },
      { text: `commits ${rateText(rates.commits)}/s` },
      { text: `connections ${connections}` },
      { text: `in flight ${inFlight}` },
    ],
    columns,
  )
}

function busiestLine({ rates }: TopData, columns: number): Line {
  const methods = rates?.methods ?? []
  if (methods.length === 0) return [{ text: cutToWidth('busiest -', columns) }]
  const spans = methods.map(({ method, perSecond }) => ({ text: `${method} ${rateText(perSecond)}/s` }))
  const [first, ...rest] = spans
  return joinSpans([{ text: `busiest ${first?.text}` }, ...rest], columns)
}

function userLine({ userCount, users, entries }: TopData, columns: number): Line {
  const frozen = users.rows.filter((user) => user.frozen !== null).length
  const full = users.rows.filter((user) => mostUsedPercent(user) >= watchPercent).length
  const head = entries.rows[0]?.seq
  return joinSpans(
    [
      { text: `${userCount} users` },
      { text: `${frozen} frozen`, colour: frozen > 0 ? 'red' : null },
      { text: `${full} at ${watchPercent}% or more`, colour: full > 0 ? 'yellow' : null },
      ...(head === undefined ? [] : [{ text: `audit head ${head}` }]),
    ],
    columns,
  )
}

function awayLines({ sinceMs, message, hint }: Away, data: TopData | null, columns: number): Line[] {
  const what = `no answer since ${timeOfDay(sinceMs)} UTC: ${message}`
  const shown = data === null ? [] : [`what follows is of ${timeOfDay(data.atMs)} UTC`]
  return [
    ...wrap(what, columns, messageLines).map((text): Line => [{ text, colour: 'red' }]),
    ...(hint === '' ? [] : wrap(`hint: ${hint}`, columns, messageLines).map((text): Line => [{ text }])),
    ...['trying again', ...shown].map((text): Line => [{ text: cutToWidth(text, columns) }]),
  ]
}

/** What keeps the daemon from granting: one line each. */
function troubleLines({ health }: TopData, columns: number): Line[] {
  return Object.entries(health.checks)
    .filter(([, state]) => state !== 'ok')
    .map(([check, state]) => joinSpans([{ text: `${check}: ${state}`, colour: 'red' }], columns))
}

type List = {
  /** Lines the list would fill, its header included. */
  readonly wanted: number
  /** Its share where not all have room. */
  readonly weight: number
  readonly render: (lines: number) => Line[]
}

function list<Row>(
  section: { readonly rows: readonly Row[]; readonly problem: string | null },
  weight: number,
  none: string,
  render: (lines: number) => Line[],
  columns: number,
): List {
  const note = section.problem ?? (section.rows.length === 0 ? none : null)
  if (note === null) return { wanted: section.rows.length + 1, weight, render }
  const span: Span = { text: note, colour: section.problem === null ? 'dim' : 'red' }
  return {
    wanted: leastListLines,
    weight,
    render: (lines) => [...render(lines).slice(0, 1), joinSpans([span], columns)].slice(0, lines),
  }
}

function listsOf({ users, reservations, entries }: TopData, nowMs: number, columns: number): List[] {
  return [
    list(
      users,
      4,
      'no users yet',
      (lines) => listLines(userColumns(users.rows), users.rows, columns, lines),
      columns,
    ),
    list(entries, 3, 'no entries', (lines) => listLines(entryColumns, entries.rows, columns, lines), columns),
    list(
      reservations,
      2,
      'nothing is held',
      (lines) => listLines(reservationColumns(nowMs), reservations.rows, columns, lines),
      columns,
    ),
  ]
}

/** How many of `available` lines each list gets: the first ones at least a row each, then by weight. */
export function shareLines(lists: readonly Pick<List, 'wanted' | 'weight'>[], available: number): number[] {
  const given = lists.map(() => 0)
  let left = available
  for (const [index] of lists.entries()) {
    if (left < leastListLines) break
    given[index] = leastListLines
    left -= leastListLines
  }
  while (left > 0) {
    let neediest = -1
    for (const [index, { wanted, weight }] of lists.entries()) {
      const has = given[index] ?? 0
      if (has === 0 || has >= wanted) continue
      if (neediest < 0 || has / weight < (given[neediest] ?? 0) / (lists[neediest]?.weight ?? 1))
        neediest = index
    }
    if (neediest < 0) break
    given[neediest] = (given[neediest] ?? 0) + 1
    left -= 1
  }
  return given
}

/** Users, then holds, then entries, though entries come before holds where not all have room. */
const displayOrder = [0, 2, 1] as const

function dataLines(data: TopData, nowMs: number, columns: number, available: number): Line[] {
  const lists = listsOf(data, nowMs, columns)
  const blanks = available >= roomyRows - 4 ? lists.length - 1 : 0
  const shares = shareLines(lists, available - blanks)
  const parts = displayOrder
    .map((index) => lists[index]?.render(shares[index] ?? 0) ?? [])
    .filter((lines) => lines.length > 0)
  return parts.flatMap((lines, index) => (index === 0 || blanks === 0 ? lines : [[], ...lines]))
}

/**
 * The screen for a state: at most `rows` lines of at most `columns` columns, from the same state always the same.
 * Whatever the daemon said is made visible: nothing in it moves the cursor.
 */
export function renderFrame(state: TopState, { columns, rows }: ScreenSize): Line[] {
  const { data, away, nowMs } = state
  const lines: Line[] = [titleLine(state, columns)]
  if (away !== null) lines.push(...awayLines(away, data, columns))
  else if (data !== null) {
    lines.push(loadLine(data, columns))
    if (rows >= roomyRows) lines.push(busiestLine(data, columns), userLine(data, columns))
    lines.push(...troubleLines(data, columns))
  }
  if (data !== null) {
    if (rows >= roomyRows) lines.push([])
    const stale = away !== null
    for (const line of dataLines(data, nowMs, columns, rows - lines.length))
      lines.push(stale ? line.map(({ text }) => ({ text, colour: 'dim' })) : line)
  }
  return lines.slice(0, rows)
}

/** A line as it is written to the terminal: cut to `columns`, in colours where `paint` has them. */
export function paintLine(line: Line, columns: number, paint: Paint): string {
  let left = columns
  let text = ''
  for (const span of line) {
    if (left <= 0) break
    const cut = cutToWidth(span.text, left)
    left -= displayWidth(cut)
    text += span.colour == null ? cut : paint(span.colour, cut)
  }
  return text
}
