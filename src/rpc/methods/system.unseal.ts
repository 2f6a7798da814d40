import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { secret } from '../schemas.ts'

export const systemUnseal = defineMethod({
  name: 'system.unseal',
  summary: 'brings the master key back: the given one, else from its configured source',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'refused',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ masterKey: secret.optional(), create: z.boolean().default(false) }),
  result: z.strictObject({
    sealed: z.literal(false),
    keyId: z.string(),
    epoch: z.int(),
    storeCreated: z.boolean(),
  }),
  handler: ({ services, act }, params) => services.unsealing.unseal(act, params),
})
