import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const systemHealth = defineMethod({
  name: 'system.health',
  summary: 'whether the daemon can do its work',
  scope: 'anyone',
  about: 'nothing',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({}),
  result: z.strictObject({
    status: z.enum(['ok', 'sealed', 'frozen', 'degraded']),
    checks: z.record(z.string(), z.string()),
  }),
  handler: ({ services, act }) => services.system.health(act),
})
