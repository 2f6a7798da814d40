import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const systemStatus = defineMethod({
  name: 'system.status',
  summary: 'version, counts, cache and queue figures, store, master key',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({}),
  result: z.looseObject({ version: z.string() }),
  handler: ({ services, act }) => services.system.status(act),
})
