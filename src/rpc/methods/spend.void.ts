import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, opaqueId, usdOut } from '../schemas.ts'

export const spendVoid = defineMethod({
  name: 'spend.void',
  summary: 'gives back what is held',
  scope: ['spend', 'settle'],
  about: 'reservation',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ reservationId: opaqueId, reason: clientString.optional() }),
  result: z.strictObject({ releasedUsd: usdOut }),
  handler: ({ services, act }, params) => services.settling.void(act, params),
})
