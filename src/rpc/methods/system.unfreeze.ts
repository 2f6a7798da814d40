import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const systemUnfreeze = defineMethod({
  name: 'system.unfreeze',
  summary: 'lifts the freeze of everything and takes the clock for right',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'refused',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({}),
  result: z.strictObject({ frozen: z.null() }),
  handler: ({ services, act }) => services.freeze.unfreezeSystem(act),
})
