import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const masterReseal = defineMethod({
  name: 'master.reseal',
  summary: 'seals every credential anew at the configured key derivation cost',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({}),
  result: z.strictObject({ jobId: z.string() }),
  handler: ({ services, act }) => services.sealingJobs.reseal(act),
})
