import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { limitOf, nextCursor, page, reservationState, timeOut, usdOut, userId } from '../schemas.ts'

export const reservationsList = defineMethod({
  name: 'reservations.list',
  summary: 'reservations of a user in one state, oldest first',
  scope: ['spend', 'settle'],
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({
    userId,
    state: reservationState.optional(),
    signed: z.boolean().optional(),
    ...page,
  }),
  result: z.strictObject({
    reservations: z.array(
      z.strictObject({
        reservationId: z.string(),
        userId: z.string(),
        credentialId: z.int().nullable(),
        amountUsd: usdOut,
        capturedUsd: usdOut,
        state: reservationState,
        signed: z.boolean(),
        digest: z.string().nullable(),
        createdAt: timeOut,
        expiresAt: timeOut.nullable(),
        postHeadersAt: timeOut.nullable(),
      }),
    ),
    nextCursor,
  }),
  handler: ({ services, act }, params) =>
    services.reports.reservations(act, { ...params, state: params.state ?? 'held', limit: limitOf(params) }),
})
