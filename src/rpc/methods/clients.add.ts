import { z } from 'zod'
import { defineMethod } from '../method.ts'
import {
  clientString,
  grantedCredentials,
  grantedScopes,
  grantedUsers,
  kernelId,
  secretOut,
  timestamp,
} from '../schemas.ts'

export const clientsAdd = defineMethod({
  name: 'clients.add',
  summary: 'registers a program and what it may do',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({
    name: clientString,
    uid: kernelId.optional(),
    gid: kernelId.optional(),
    token: z.literal(true).optional(),
    expiresAt: timestamp.optional(),
    users: grantedUsers,
    credentials: grantedCredentials.optional(),
    scopes: grantedScopes,
  }),
  result: z.strictObject({ clientId: z.int(), token: secretOut.nullable() }),
  handler: ({ services, act }, params) => services.clients.add(act, params),
})
