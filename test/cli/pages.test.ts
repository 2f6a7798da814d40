import { describe, expect, test } from 'vitest'
import { type FetchPage, followPages, type Page, type PageRequest } from '../../src/cli/pages.ts'

/** Pages over the numbers 0..total-1; `asked` collects the requests. */
function pagesOf(total: number, asked: PageRequest[] = []): FetchPage<number> {
  return async (request) => {
    asked.push(request)
    const start = Number(request.cursor ?? 0)
    const end = Math.min(total, start + request.limit)
    const rows = Array.from({ length: end - start }, (_row, index) => start + index)
    return { rows, nextCursor: end < total ? String(end) : null }
  }
}

async function collect(pages: AsyncIterable<Page<number>>): Promise<Page<number>[]> {
  const all: Page<number>[] = []
  for await (const page of pages) all.push(page)
  return all
}

describe('followPages', () => {
  test('follows cursors to the end', async () => {
    const pages = await collect(followPages(pagesOf(2500), Number.POSITIVE_INFINITY))
    expect(pages.map((page) => page.rows.length)).toEqual([1000, 1000, 500])
    expect(pages.flatMap((page) => page.rows)).toEqual(Array.from({ length: 2500 }, (_row, index) => index))
  })

  test('asks for no more than is wanted, so that the last cursor is where to go on', async () => {
    const asked: PageRequest[] = []
    const pages = await collect(followPages(pagesOf(5000, asked), 1500))
    expect(asked.map(({ limit }) => limit)).toEqual([1000, 500])
    expect(pages.at(-1)?.nextCursor).toBe('1500')
  })

  test('an empty list is one empty page', async () => {
    expect(await collect(followPages(pagesOf(0), 10))).toEqual([{ rows: [], nextCursor: null }])
  })

  test('a cursor that does not move is an error, not a list that looks complete', async () => {
    const stuck: FetchPage<number> = async () => ({ rows: [], nextCursor: 'same' })
    await expect(collect(followPages(stuck, 10))).rejects.toThrow('same cursor')
  })
})
