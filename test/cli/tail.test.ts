import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { FetchPage } from '../../src/cli/pages.ts'
import { entriesAfter } from '../../src/cli/tail.ts'

const seed = Number(process.env['PURSER_TEST_SEED'] ?? Date.now() % 2 ** 31)

type Entry = { readonly seq: number }

/** Newest first, as audit.query answers; the cursor is the last seq seen. */
function logOf(seqs: readonly number[]): FetchPage<Entry> {
  const newestFirst = [...seqs].sort((one, two) => two - one)
  return async ({ cursor, limit }) => {
    const rest = newestFirst.filter((seq) => cursor === undefined || seq < Number(cursor))
    const rows = rest.slice(0, limit).map((seq) => ({ seq }))
    return { rows, nextCursor: rest.length > limit ? String(rows.at(-1)?.seq) : null }
  }
}

const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_entry, index) => from + index)

describe('entriesAfter', () => {
  test('answers what is newer, oldest first', async () => {
    expect(await entriesAfter(logOf(range(1, 10)), 7)).toEqual({
      entries: [{ seq: 8 }, { seq: 9 }, { seq: 10 }],
      skipped: false,
    })
  })

  test('nothing new, and an empty log', async () => {
    expect(await entriesAfter(logOf(range(1, 10)), 10)).toEqual({ entries: [], skipped: false })
    expect(await entriesAfter(logOf([]), 0)).toEqual({ entries: [], skipped: false })
  })

  test('misses and repeats nothing, with gaps and over many pages', async () => {
    const seqs = fc.uniqueArray(fc.integer({ min: 1, max: 3000 }), { maxLength: 1500 })
    await fc.assert(
      fc.asyncProperty(seqs, fc.integer({ min: 0, max: 3000 }), async (all, lastSeq) => {
        const { entries } = await entriesAfter(logOf(all), lastSeq)
        const expected = all.filter((seq) => seq > lastSeq).sort((one, two) => one - two)
        expect(entries.map(({ seq }) => seq)).toEqual(expected)
      }),
      { seed, numRuns: 50 },
    )
  })

  test('goes back a bounded way and says that it skipped', async () => {
    const { entries, skipped } = await entriesAfter(logOf(range(1, 20_000)), 1)
    expect(skipped).toBe(true)
    expect(entries).toHaveLength(5000)
    expect(entries.at(-1)).toEqual({ seq: 20_000 })
  })

  test('drops entries that a later page repeats', async () => {
    const pages: FetchPage<Entry> = async ({ cursor }) =>
      cursor === undefined
        ? { rows: [{ seq: 9 }, { seq: 8 }], nextCursor: 'x' }
        : { rows: [{ seq: 8 }, { seq: 7 }, { seq: 1 }], nextCursor: null }
    expect((await entriesAfter(pages, 5)).entries).toEqual([{ seq: 7 }, { seq: 8 }, { seq: 9 }])
  })
})
