import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { masterKey } from '../schemas.ts'

export const masterRotate = defineMethod({
  name: 'master.rotate',
  summary: 'seals every credential anew under a new master key',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({ newMasterKey: masterKey.optional() }),
  result: z.strictObject({ jobId: z.string() }),
  handler: ({ services, act }, params) => services.sealingJobs.rotate(act, params.newMasterKey),
})
