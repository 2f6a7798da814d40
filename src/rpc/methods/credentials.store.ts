import { z } from 'zod'
import { defineMethod } from '../method.ts'
import {
  apiSecret,
  clientString,
  policy,
  privateKey,
  secret,
  timestamp,
  usdLimit,
  userId,
} from '../schemas.ts'

export const credentialsStore = defineMethod({
  name: 'credentials.store',
  summary: 'keeps a credential',
  scope: 'credentials:write',
  about: 'new-credential',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z
    .strictObject({
      userId,
      apiKey: clientString,
      apiSecret,
      passphrase: secret.optional(),
      privateKey: privateKey.optional(),
      name: clientString.optional(),
      dailySpendLimitUsd: usdLimit.optional(),
      expiresInDays: z.int().min(1).max(3650).optional(),
      expiresAt: timestamp.optional(),
      isPrimary: z.boolean().optional(),
      privateKeyPolicy: policy.optional(),
    })
    .refine(({ expiresAt, expiresInDays }) => expiresAt === undefined || expiresInDays === undefined, {
      path: ['expiresAt'],
      error: 'give expiresInDays or expiresAt, not both',
    }),
  result: z.strictObject({ credentialId: z.int(), fingerprint: z.string(), address: z.string().nullable() }),
  handler: ({ services, act }, params) => services.lifecycle.store(act, params),
})
