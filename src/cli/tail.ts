import type { FetchPage } from './pages.ts'

/** Entries a poll asks for at once, and how many such pages it goes back before it skips what lies between. */
const pageRows = 200
const maxPages = 25

type Sequenced = { readonly seq: number }

export type NewEntries<Entry> = {
  /** Oldest first. */
  readonly entries: readonly Entry[]
  /** True where there were more than a poll goes back for. */
  readonly skipped: boolean
}

/** What has come after `lastSeq`, out of pages that answer the newest first. Bounded at 5000 entries a poll. */
export async function entriesAfter<Entry extends Sequenced>(
  fetchPage: FetchPage<Entry>,
  lastSeq: number,
): Promise<NewEntries<Entry>> {
  const found: Entry[] = []
  let seen = Number.POSITIVE_INFINITY
  let cursor: string | null = null
  for (let pages = 0; pages < maxPages; pages++) {
    const page = await fetchPage(cursor === null ? { limit: pageRows } : { cursor, limit: pageRows })
    for (const entry of page.rows) {
      if (entry.seq <= lastSeq) return { entries: found.reverse(), skipped: false }
      // A page may repeat entries that others pushed back meanwhile.
      if (entry.seq < seen) found.push(entry)
      seen = Math.min(seen, entry.seq)
    }
    if (page.nextCursor === null) return { entries: found.reverse(), skipped: false }
    cursor = page.nextCursor
  }
  return { entries: found.reverse(), skipped: true }
}
