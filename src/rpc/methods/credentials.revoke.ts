import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, credentialId, credentialMetadata, userId } from '../schemas.ts'

export const credentialsRevoke = defineMethod({
  name: 'credentials.revoke',
  summary: 'takes a credential out of use for good',
  scope: 'credentials:write',
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ userId, credentialId, reason: clientString.optional() }),
  result: credentialMetadata,
  handler: ({ services, act }, params) => services.lifecycle.revoke(act, params),
})
