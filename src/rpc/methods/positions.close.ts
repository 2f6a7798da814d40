import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, opaqueId, tradeId, usdAmount, usdOut, userId } from '../schemas.ts'

export const positionsClose = defineMethod({
  name: 'positions.close',
  summary: 'frees exposure of a position that is no longer open',
  scope: ['spend', 'settle'],
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'works',
  large: false,
  params: z
    .strictObject({
      userId,
      positionId: opaqueId.optional(),
      tradeId: tradeId.optional(),
      amountUsd: usdAmount.optional(),
      idempotencyKey: clientString.optional(),
    })
    .refine(({ positionId, tradeId }) => (positionId === undefined) !== (tradeId === undefined), {
      path: ['positionId'],
      error: 'give positionId or tradeId, one of them',
    }),
  result: z.strictObject({ closedUsd: usdOut, openUsd: usdOut }),
  handler: ({ services, act }, params) => services.settling.close(act, params),
})
