import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { limitOf, nextCursor, page, user } from '../schemas.ts'

/** The userId of the last user given out. */
const userIdCursor = z
  .string()
  .regex(/^[A-Za-z0-9._:@-]{1,128}$/, 'use the nextCursor of an earlier answer as it is')

export const usersList = defineMethod({
  name: 'users.list',
  summary: 'users in the order of their ids',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({ ...page, cursor: userIdCursor.optional() }),
  result: z.strictObject({ users: z.array(user), nextCursor }),
  handler: async ({ services, act }, params) => {
    const limit = limitOf(params)
    const users = await services.users.list(act, params.cursor ?? '', limit + 1)
    const shown = users.slice(0, limit)
    return { users: shown, nextCursor: users.length > limit ? shown.at(-1)!.userId : null }
  },
})
