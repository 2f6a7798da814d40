import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { limitOf, nextCursor, page, timeOut, usdOut, userId } from '../schemas.ts'

export const positionsList = defineMethod({
  name: 'positions.list',
  summary: 'positions of a user, oldest first',
  scope: ['spend', 'settle'],
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({ userId, state: z.enum(['open', 'closed']).optional(), ...page }),
  result: z.strictObject({
    positions: z.array(
      z.strictObject({
        positionId: z.string(),
        userId: z.string(),
        credentialId: z.int().nullable(),
        tradeId: z.string().nullable(),
        amountUsd: usdOut,
        openUsd: usdOut,
        state: z.enum(['open', 'closed']),
        openedAt: timeOut,
        closedAt: timeOut.nullable(),
      }),
    ),
    nextCursor,
  }),
  handler: ({ services, act }, params) =>
    services.reports.positions(act, { ...params, limit: limitOf(params) }),
})
