import type { Page, PageParams, SpendStatus, User } from '../../client/index.ts'
import { mostUsedPercent } from './state.ts'

/** Users looked at in one go: with the busiest ones some 5 ms of the daemon's time. */
const sweepUsers = 200
/** Users that are looked at every time, whoever's turn it is: more than a screen shows. */
const watchedUsers = 50
/** Users remembered, about 1 KiB each; beyond it the least used are forgotten until their next turn. */
const rememberedUsersMax = 10_000

/** The two questions a board asks. */
export type BoardSource = {
  readonly list: (page: PageParams) => Promise<Page<'users', User>>
  readonly status: (userId: string) => Promise<SpendStatus>
}

/**
 * The users by how far their limits are used up. Nobody answers that in one call, so each look asks about the busiest
 * known ones and about some further users in turn: up to 200 users all of them every time, of 10,000 each one within
 * a minute.
 */
export class UserBoard {
  readonly #source: BoardSource
  readonly #known = new Map<string, SpendStatus>()
  #cursor: string | null = null

  constructor(source: BoardSource) {
    this.#source = source
  }

  /** Looks once; answers all known users, most used first. Rejects with what the source rejects with. */
  async look(): Promise<readonly SpendStatus[]> {
    const page: PageParams = { limit: sweepUsers }
    if (this.#cursor !== null) page.cursor = this.#cursor
    const { users, nextCursor } = await this.#source.list(page)
    const watched = this.#sorted().slice(0, watchedUsers)
    const userIds = new Set([...users, ...watched].map((user) => user.userId))
    const statuses = await Promise.all([...userIds].map((userId) => this.#source.status(userId)))
    this.#cursor = nextCursor
    for (const status of statuses) this.#known.set(status.userId, status)
    const sorted = this.#sorted()
    for (const { userId } of sorted.splice(rememberedUsersMax)) this.#known.delete(userId)
    return sorted
  }

  #sorted(): SpendStatus[] {
    return [...this.#known.values()].sort(
      (one, two) => mostUsedPercent(two) - mostUsedPercent(one) || (one.userId < two.userId ? -1 : 1),
    )
  }
}
