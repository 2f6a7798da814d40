import type { Cli, GlobalOptions } from './cli.ts'
import { CliError } from './cli-error.ts'
import { type Column, createTable } from './text/table.ts'
import { visibleJson } from './text/visible.ts'

/** The most the daemon answers in one page. */
const maxPageRows = 1000

export type Page<Row> = { readonly rows: readonly Row[]; readonly nextCursor: string | null }
export type PageRequest = { readonly cursor?: string; readonly limit: number }
export type FetchPage<Row> = (request: PageRequest) => Promise<Page<Row>>

/**
 * Follows cursors until the end or `maxRows` rows. The last page asked for is cut to what is missing, so that its
 * `nextCursor` is where a caller goes on. Throws CliError where a cursor does not move: the list would never end.
 */
export async function* followPages<Row>(
  fetchPage: FetchPage<Row>,
  maxRows: number,
): AsyncGenerator<Page<Row>> {
  let cursor: string | null = null
  let left = maxRows
  do {
    const limit = Math.min(maxPageRows, left)
    const page: Page<Row> = await fetchPage(cursor === null ? { limit } : { cursor, limit })
    yield page
    left -= page.rows.length
    if (page.nextCursor !== null && page.nextCursor === cursor)
      throw new CliError('unforeseen', 'the daemon answers the same cursor again; the list is not complete')
    cursor = page.nextCursor
  } while (cursor !== null && left > 0)
}

export type ListView<Row> = {
  /** Name of the list in the answer: `credentials`. */
  readonly plural: string
  readonly columns: readonly Column<Row>[]
}

/** Prints a list page by page, in memory for one page: a table, or under --json one answer with all rows in it. */
export async function printPages<Row>(
  cli: Cli,
  options: GlobalOptions,
  view: ListView<Row>,
  pages: AsyncIterable<Page<Row>>,
): Promise<void> {
  if (options.json === true) return printJsonPages(cli, view.plural, pages)
  const { output } = cli
  const table = createTable(view.columns, { terminalColumns: output.terminalColumns, paint: output.paint })
  let rows = 0
  for await (const page of pages) {
    rows += page.rows.length
    if (page.rows.length > 0) await output.write(table(page.rows))
  }
  if (rows === 0) cli.stderr.write(`no ${view.plural}\n`)
}

async function printJsonPages<Row>(cli: Cli, plural: string, pages: AsyncIterable<Page<Row>>): Promise<void> {
  let text = `{${JSON.stringify(plural)}:[`
  let separator = ''
  let nextCursor: string | null = null
  for await (const page of pages) {
    for (const row of page.rows) {
      text += separator + visibleJson(row)
      separator = ','
    }
    nextCursor = page.nextCursor
    await cli.output.write(text)
    text = ''
  }
  await cli.output.write(`${text}],"nextCursor":${JSON.stringify(nextCursor)}}\n`)
}
