import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, credentialId, credentialMetadata, timestamp, usdLimit, userId } from '../schemas.ts'

export const credentialsUpdate = defineMethod({
  name: 'credentials.update',
  summary: 'changes what is known of a credential',
  scope: 'credentials:write',
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({
    userId,
    credentialId,
    name: clientString.nullable().optional(),
    dailySpendLimitUsd: usdLimit.nullable().optional(),
    expiresAt: timestamp.nullable().optional(),
    isPrimary: z.literal(true).optional(),
    privateKeyPolicy: z.literal('sign-only').optional(),
  }),
  result: credentialMetadata,
  handler: ({ services, act }, params) => services.lifecycle.update(act, params),
})
