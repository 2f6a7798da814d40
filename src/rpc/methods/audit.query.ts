import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { limitOf, nextCursor, page, timeOut, timestamp, userId } from '../schemas.ts'

export const auditQuery = defineMethod({
  name: 'audit.query',
  summary: 'audit entries, newest first',
  scope: 'audit:read',
  about: 'granted',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({
    userId: userId.optional(),
    action: z
      .string()
      .regex(/^[a-z_]{1,64}\*?$|^\*$/, 'must be an action, or the beginning of one and *')
      .optional(),
    outcome: z.enum(['ok', 'denied', 'error']).optional(),
    since: timestamp.optional(),
    until: timestamp.optional(),
    ...page,
  }),
  result: z.strictObject({
    entries: z.array(z.looseObject({ seq: z.int(), at: timeOut, action: z.string() })),
    nextCursor,
  }),
  handler: ({ services, act }, params) => services.audit.query(act, { ...params, limit: limitOf(params) }),
})
