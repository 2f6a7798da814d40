import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { client, limitOf, nextCursor, page } from '../schemas.ts'

export const clientsList = defineMethod({
  name: 'clients.list',
  summary: 'registered programs in the order they were added',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({ ...page }),
  result: z.strictObject({ clients: z.array(client), nextCursor }),
  handler: ({ services, act }, params) => services.clients.list(act, { ...params, limit: limitOf(params) }),
})
