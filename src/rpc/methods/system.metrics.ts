import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const systemMetrics = defineMethod({
  name: 'system.metrics',
  summary: 'figures in the Prometheus text format',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({}),
  result: z.strictObject({ contentType: z.string(), text: z.string() }),
  handler: async ({ services, act }) => {
    // A freeze of an earlier run is known only once it is read; a store that fails must not hide the figures.
    await services.freeze.current(act).catch(() => null)
    return await services.metrics.text()
  },
})
