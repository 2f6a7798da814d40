import { z } from 'zod'
import { defineMethod } from '../method.ts'
import {
  clientString,
  credentialId,
  remaining,
  reservationState,
  timeOut,
  usdAmount,
  usdOut,
  userId,
} from '../schemas.ts'

export const spendReserve = defineMethod({
  name: 'spend.reserve',
  summary: 'holds an amount if every limit allows it',
  scope: 'spend',
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({
    userId,
    credentialId: credentialId.optional(),
    amountUsd: usdAmount,
    ttlSeconds: z.int().min(1).max(86_400).optional(),
    idempotencyKey: clientString.optional(),
  }),
  result: z.strictObject({
    reservationId: z.string(),
    state: reservationState,
    amountUsd: usdOut,
    expiresAt: timeOut.nullable(),
    remaining,
  }),
  handler: ({ services, act }, params) => services.reserving.reserve(act, params),
})
