import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { credentialId, credentialMetadata, userId } from '../schemas.ts'

export const credentialsGet = defineMethod({
  name: 'credentials.get',
  summary: 'what is known of a credential, without its secrets',
  scope: 'user',
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ userId, credentialId }),
  result: credentialMetadata,
  handler: ({ services, act }, params) => services.queries.get(act, params.userId, params.credentialId),
})
