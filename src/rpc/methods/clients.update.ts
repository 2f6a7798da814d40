import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { client, clientId, grantedCredentials, grantedScopes, grantedUsers, timestamp } from '../schemas.ts'

export const clientsUpdate = defineMethod({
  name: 'clients.update',
  summary: 'changes what a registered program may do',
  scope: 'admin',
  about: 'everything',
  // Narrowing takes access away; what would widen is refused by the service.
  belowReserve: 'works',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({
    clientId,
    users: grantedUsers.optional(),
    credentials: grantedCredentials.nullable().optional(),
    scopes: grantedScopes.optional(),
    expiresAt: timestamp.nullable().optional(),
  }),
  result: client,
  handler: ({ services, act }, params) => services.clients.update(act, params),
})
