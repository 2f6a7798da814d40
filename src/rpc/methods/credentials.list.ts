import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { credentialPage, limitOf, page, timestamp, userId } from '../schemas.ts'

export const credentialsList = defineMethod({
  name: 'credentials.list',
  summary: 'credentials in the order of their ids',
  scope: 'user',
  about: 'granted',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({
    userId: userId.optional(),
    status: z.enum(['active', 'revoked', 'expired']).optional(),
    encryptedBefore: timestamp.optional(),
    ...page,
  }),
  result: credentialPage,
  handler: ({ services, act }, params) => services.queries.list(act, { ...params, limit: limitOf(params) }),
})
