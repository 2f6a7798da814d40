import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { credentialId, userId } from '../schemas.ts'

export const credentialsRotate = defineMethod({
  name: 'credentials.rotate',
  summary: 'gives envelopes a fresh salt, key and nonce',
  scope: 'credentials:write',
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({ userId, credentialId: credentialId.optional() }),
  result: z.strictObject({ rotated: z.int() }),
  handler: ({ services, act }, params) => services.lifecycle.rotate(act, params.userId, params.credentialId),
})
