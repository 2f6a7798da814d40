import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, freeze } from '../schemas.ts'

export const systemFreeze = defineMethod({
  name: 'system.freeze',
  summary: 'stops everything that grants money or hands out secrets',
  scope: 'freeze',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ reason: clientString }),
  result: z.strictObject({ frozen: freeze }),
  handler: ({ services, act }, params) => services.freeze.freezeSystem(act, params.reason),
})
