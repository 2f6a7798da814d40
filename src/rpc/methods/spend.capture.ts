import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { opaqueId, remaining, tradeId, usdAmount, usdOut } from '../schemas.ts'

export const spendCapture = defineMethod({
  name: 'spend.capture',
  summary: 'turns a hold, or part of it, into a position',
  scope: ['spend', 'settle'],
  about: 'reservation',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({
    reservationId: opaqueId,
    amountUsd: usdAmount.optional(),
    tradeId: tradeId.optional(),
    final: z.boolean().optional(),
  }),
  result: z.strictObject({
    positionId: z.string(),
    amountUsd: usdOut,
    releasedUsd: usdOut,
    heldUsd: usdOut,
    remaining,
  }),
  handler: ({ services, act }, params) => services.settling.capture(act, params),
})
