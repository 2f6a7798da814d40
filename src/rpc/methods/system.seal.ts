import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { timeOut } from '../schemas.ts'

export const systemSeal = defineMethod({
  name: 'system.seal',
  summary: 'wipes the master key and all that was opened with it, until an unseal',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({}),
  result: z.strictObject({ sealed: z.literal(true), since: timeOut }),
  handler: ({ services, act }) => services.sealing.seal(act),
})
