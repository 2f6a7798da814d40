import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createPaint } from '../../../src/cli/text/style.ts'
import { displayWidth } from '../../../src/cli/text/width.ts'
import { paintLine, renderFrame, shareLines } from '../../../src/cli/top/frame.ts'
import type { TopData, TopState } from '../../../src/cli/top/state.ts'
import { busy, nowMs, user } from './sample.ts'

const seed = Number(process.env['PURSER_TEST_SEED'] ?? Date.now() % 2 ** 31)
const plain = createPaint(false, {})
const coloured = createPaint(true, { TERM: 'xterm' })

const live = (data: TopData): TopState => ({ nowMs, data, away: null })

function frame(state: TopState, columns: number, rows: number): string[] {
  return renderFrame(state, { columns, rows }).map((line) => paintLine(line, columns, plain))
}

const text = (state: TopState, columns: number, rows: number): string =>
  `${frame(state, columns, rows)
    .map((line) => line.trimEnd())
    .join('\n')}\n`

const empty: TopData = {
  ...busy,
  rates: null,
  userCount: 0,
  users: { rows: [], problem: null },
  reservations: { rows: [], problem: null },
  entries: { rows: [], problem: null },
}
const away = {
  sinceMs: nowMs - 12_000,
  message: 'no socket at /run/user/1000/purser/purser.sock nor /run/purser/purser.sock',
  hint: 'is purserd running? start it, or name its socket by PURSER_SOCKET or the option socketPath',
}

describe('a frame', () => {
  test.each([
    [80, 24],
    [40, 10],
    [200, 50],
  ])('%i by %i', async (columns, rows) => {
    await expect(text(live(busy), columns, rows)).toMatchFileSnapshot(`frames/${columns}x${rows}.txt`)
  })

  test('while the daemon is away says so first, with what was seen last', async () => {
    const state = { nowMs, data: busy, away }
    await expect(text(state, 80, 24)).toMatchFileSnapshot('frames/away-80x24.txt')
    await expect(text({ ...state, data: null }, 40, 10)).toMatchFileSnapshot('frames/away-40x10.txt')
    const stale = renderFrame(state, { columns: 80, rows: 24 }).flat()
    expect(stale.find((span) => span.text.includes('maker-eu'))).toMatchObject({ colour: 'dim' })
  })

  test('of an empty daemon, and before the first look', () => {
    const nothing = text(live(empty), 80, 24)
    for (const said of ['requests -/s', 'no users yet', 'nothing is held', 'no entries'])
      expect(nothing).toContain(said)
    expect(frame({ nowMs, data: null, away: null }, 80, 24)).toEqual([
      expect.stringMatching(/^purser {2}looking {2}q quits +21:03:09 UTC$/),
    ])
  })

  test('names what keeps the daemon from granting, and a list it refuses', () => {
    const state = live({
      ...busy,
      health: { status: 'frozen', checks: { store: 'ok', freeze: 'frozen: drill\x1b[2J' } },
      users: { rows: [], problem: 'the daemon is sealed' },
    })
    for (const [columns, rows] of [
      [80, 24],
      [40, 10],
    ] as const) {
      expect(text(state, columns, rows)).toMatch(/^purser 1\.2\.3 {2}frozen/)
      expect(text(state, columns, rows)).toMatch(/^freeze: frozen: drill\\x1b\[2J$/m)
      expect(text(state, columns, rows)).toContain('the daemon is sealed')
    }
  })

  test('shows no part of an amount: a column without room is left out', () => {
    const exact = { ...user('a', 'pro', 1, 0), worstCaseUsd: '999999999999.999999' }
    const data = { ...busy, version: 'one', users: { rows: [exact], problem: null }, entries: empty.entries }
    for (let columns = 10; columns <= 200; columns++)
      // The first lines are sentences, which are cut.
      expect(
        frame(live(data), columns, 24)
          .slice(4)
          .join('\n')
          .replace(/bot-\d…/g, ''),
      ).not.toMatch(/\d…/)
    expect(text(live(data), 200, 24)).toContain('999999999999.999999')
  })

  test('has bars from 40 columns on, in colours by how full they are', () => {
    expect(text(live(busy), 40, 10)).toMatch(/^maker-eu .*\[\|+ *\] +\d+\.\d\d%/m)
    const spans = renderFrame(live(busy), { columns: 80, rows: 24 }).flat()
    const colourOf = (percent: string) => spans.find((span) => span.text.includes(percent))?.colour
    expect([colourOf('99.99%'), colourOf('82.00%'), colourOf('48.00%')]).toEqual(['red', 'yellow', 'green'])
  })

  test('whatever the size and the content: fits, and nothing in it moves the cursor', () => {
    const anything = fc.string({ unit: 'binary', maxLength: 60 })
    const users = fc.array(
      fc.record({ userId: anything, tier: anything, percent: fc.double({ min: 0, max: 1e20, noNaN: true }) }),
      { maxLength: 30 },
    )
    const isAway = fc.option(fc.record({ message: anything, hint: anything }))
    const check = fc.property(
      fc.integer({ min: 1, max: 260 }),
      fc.integer({ min: 1, max: 70 }),
      users,
      isAway,
      fc.boolean(),
      (columns, rows, list, reason, seen) => {
        const [first] = busy.entries.rows
        const data: TopData = {
          ...busy,
          version: list[0]?.tier ?? '1',
          health: { status: 'frozen', checks: { freeze: list[0]?.userId ?? 'x' } },
          users: {
            rows: list.map(({ userId, tier, percent }) => {
              const status = user('', tier, 100, 10)
              return { ...status, userId, userDaily: { ...status.userDaily, percent } }
            }),
            problem: null,
          },
          entries: {
            rows: list.map(({ userId, tier }) => ({
              ...first!,
              userId,
              client: tier,
              action: userId,
              details: { userId },
            })),
            problem: null,
          },
        }
        const state: TopState = {
          nowMs,
          data: seen ? data : null,
          away: reason === null ? null : { sinceMs: nowMs, ...reason },
        }
        const lines = renderFrame(state, { columns, rows })
        expect(lines.length).toBeLessThanOrEqual(rows)
        for (const line of lines) {
          const shown = paintLine(line, columns, plain)
          expect(displayWidth(shown)).toBeLessThanOrEqual(columns)
          expect(shown).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u)
          // Colours are all that is added to the text.
          const pieces = paintLine(line, columns, coloured).split('\x1b')
          expect(
            pieces.map((piece, index) => (index === 0 ? piece : piece.replace(/^\[\d+m/, ''))).join(''),
          ).toBe(shown)
        }
        expect(renderFrame(state, { columns, rows })).toEqual(lines)
      },
    )
    fc.assert(check, { seed, numRuns: 500 })
  })
})

describe('shareLines', () => {
  const list = (wanted: number, weight: number) => ({ wanted, weight })

  test('gives all what they want where there is room', () => {
    expect(shareLines([list(5, 4), list(9, 3), list(2, 2)], 30)).toEqual([5, 9, 2])
  })

  test('the first lists come first where there is little', () => {
    const wanted = [list(50, 4), list(50, 3), list(50, 2)]
    expect([0, 1, 2, 4, 6].map((available) => shareLines(wanted, available))).toEqual([
      [0, 0, 0],
      [0, 0, 0],
      [2, 0, 0],
      [2, 2, 0],
      [2, 2, 2],
    ])
  })

  test('shares by weight, and hands on what a list does not want', () => {
    expect(shareLines([list(50, 4), list(50, 3), list(50, 2)], 18)).toEqual([8, 6, 4])
    expect(shareLines([list(3, 4), list(50, 3), list(50, 2)], 18)).toEqual([3, 9, 6])
  })
})
