import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { credentialId, secretOut, timeOut, userId } from '../schemas.ts'

export const credentialsRetrieve = defineMethod({
  name: 'credentials.retrieve',
  summary: 'hands out a credential with its secrets',
  scope: 'credentials:read',
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({ userId, credentialId: credentialId.optional() }),
  result: z.strictObject({
    credentialId: z.int(),
    name: z.string().nullable(),
    apiKey: z.string(),
    apiSecret: secretOut,
    passphrase: secretOut.nullable(),
    privateKey: secretOut.nullable(),
    address: z.string().nullable(),
    expiresAt: timeOut.nullable(),
  }),
  handler: ({ services, act }, params) =>
    services.retrieval.retrieve(act, params.userId, params.credentialId),
})
