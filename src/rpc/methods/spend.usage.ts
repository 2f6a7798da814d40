import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { limitOf, nextCursor, page, usdOut } from '../schemas.ts'

export const spendUsage = defineMethod({
  name: 'spend.usage',
  summary: 'credentials with a daily limit, most used first',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({ ...page }),
  result: z.strictObject({
    usage: z.array(
      z.strictObject({
        userId: z.string(),
        email: z.string().nullable(),
        credentialId: z.int(),
        name: z.string().nullable(),
        spentUsd: usdOut,
        limitUsd: usdOut,
        percent: z.number(),
      }),
    ),
    nextCursor,
  }),
  handler: ({ services, act }, params) => services.reports.usage(act, { ...params, limit: limitOf(params) }),
})
