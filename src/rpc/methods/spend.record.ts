import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, credentialId, remaining, tradeId, usdAmount, userId } from '../schemas.ts'

export const spendRecord = defineMethod({
  name: 'spend.record',
  summary: 'counts a buy that has already happened',
  scope: 'spend',
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({
    userId,
    credentialId: credentialId.optional(),
    amountUsd: usdAmount,
    tradeId: tradeId.optional(),
    idempotencyKey: clientString.optional(),
  }),
  result: z.strictObject({ positionId: z.string(), overLimit: z.boolean(), remaining }),
  handler: ({ services, act }, params) => services.settling.record(act, params),
})
