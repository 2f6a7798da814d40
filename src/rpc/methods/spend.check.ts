import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { credentialId, remaining, usdAmount, userId } from '../schemas.ts'

export const spendCheck = defineMethod({
  name: 'spend.check',
  summary: 'whether an amount would be granted now',
  scope: 'spend',
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({ userId, credentialId: credentialId.optional(), amountUsd: usdAmount }),
  result: z.strictObject({ allowed: z.literal(true), remaining }),
  handler: ({ services, act }, params) => services.reserving.check(act, params),
})
