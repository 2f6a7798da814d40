import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, usdLimit, user, userId } from '../schemas.ts'

export const usersPut = defineMethod({
  name: 'users.put',
  summary: 'makes or changes a user',
  scope: 'admin',
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({
    userId,
    tier: z.string().min(1).max(64).optional(),
    email: clientString.nullable().optional(),
    limits: z
      .strictObject({
        perTradeUsd: usdLimit.nullable().optional(),
        dailyUsd: usdLimit.nullable().optional(),
        exposureUsd: usdLimit.nullable().optional(),
      })
      .optional(),
    settlement: z.enum(['operator', 'cooperative']).optional(),
    maxSignaturesPerMinute: z.int().min(0).max(1_000_000).nullable().optional(),
  }),
  result: user,
  handler: ({ services, act }, params) => services.users.put(act, params),
})
