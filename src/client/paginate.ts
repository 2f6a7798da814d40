import { ProtocolError } from './errors.ts'
import type { Item, ListMethod, Params } from './types.ts'

/** The items of a list, fetched page by page. */
export type Paginated<M extends ListMethod> = AsyncGenerator<Item<M>, void, undefined>

type ReadPage = (params: Readonly<Record<string, unknown>>) => Promise<unknown>

/** Yields every item from `params.cursor` (default: the start) to the end of the list. */
export async function* paginate<M extends ListMethod>(
  readPage: ReadPage,
  method: M,
  params: Params<M> | undefined,
): Paginated<M> {
  const first: Readonly<Record<string, unknown>> = params ?? {}
  let cursor = first['cursor']
  for (;;) {
    const { items, nextCursor } = takeApart(await readPage({ ...first, cursor }), method)
    yield* items as Item<M>[]
    if (nextCursor === null) return
    if (nextCursor === cursor) throw new ProtocolError(`${method} answers the same cursor again`)
    cursor = nextCursor
  }
}

function takeApart(page: unknown, method: string): { items: unknown[]; nextCursor: string | null } {
  const { nextCursor, ...lists } = page as Record<string, unknown>
  const items = Object.values(lists).find(Array.isArray)
  if (items === undefined || (nextCursor !== null && typeof nextCursor !== 'string'))
    throw new ProtocolError(`${method} answered no page`)
  return { items, nextCursor }
}
