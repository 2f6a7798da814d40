import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { credentialPage, limitOf, page } from '../schemas.ts'

export const credentialsExpiring = defineMethod({
  name: 'credentials.expiring',
  summary: 'unrevoked credentials that expire soon, soonest first',
  scope: 'user',
  about: 'granted',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({ withinDays: z.number().positive().max(3650), ...page }),
  result: credentialPage,
  handler: ({ services, act }, params) =>
    services.queries.expiring(act, { ...params, limit: limitOf(params) }),
})
