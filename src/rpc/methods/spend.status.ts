import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { credentialId, daily, freeze, usdOut, userId } from '../schemas.ts'

export const spendStatus = defineMethod({
  name: 'spend.status',
  summary: 'limits, what is used of them and the worst that can happen',
  scope: 'user',
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ userId, credentialId: credentialId.optional() }),
  result: z.strictObject({
    userId: z.string(),
    tier: z.string(),
    frozen: freeze.nullable(),
    perTrade: z.strictObject({ limitUsd: usdOut }),
    credentialDaily: daily.nullable(),
    userDaily: daily,
    exposure: z.strictObject({
      limitUsd: usdOut,
      openUsd: usdOut,
      reservedUsd: usdOut,
      remainingUsd: usdOut,
      percent: z.number(),
    }),
    worstCaseUsd: usdOut,
    unbounded: z.array(z.enum(['private_key_retrievable', 'sell_without_floor'])),
  }),
  handler: ({ services, act }, params) => services.reports.status(act, params),
})
