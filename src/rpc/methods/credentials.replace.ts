import { z } from 'zod'
import { defineMethod } from '../method.ts'
import {
  apiSecret,
  clientString,
  credentialId,
  credentialMetadata,
  privateKey,
  secret,
  userId,
} from '../schemas.ts'

export const credentialsReplace = defineMethod({
  name: 'credentials.replace',
  summary: 'puts new secrets in the place of the old',
  scope: 'credentials:write',
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({
    userId,
    credentialId,
    apiKey: clientString,
    apiSecret,
    passphrase: secret.optional(),
    privateKey: privateKey.optional(),
  }),
  result: credentialMetadata,
  handler: ({ services, act }, params) => services.lifecycle.replace(act, params),
})
