import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const auditFailures = defineMethod({
  name: 'audit.failures',
  summary: 'users whose retrievals were refused or failed often',
  scope: 'audit:read',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({
    hours: z.number().positive().max(87_600).optional(),
    over: z.int().nonnegative().optional(),
  }),
  result: z.strictObject({ users: z.array(z.strictObject({ userId: z.string(), failures: z.int() })) }),
  handler: ({ services, act }, params) =>
    services.audit.failures(act, { hours: params.hours ?? 24, over: params.over ?? 10 }),
})
