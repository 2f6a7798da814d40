import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientId } from '../schemas.ts'

export const clientsRemove = defineMethod({
  name: 'clients.remove',
  summary: 'takes everything from a registered program, at once',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ clientId }),
  result: z.strictObject({ clientId: z.int() }),
  handler: ({ services, act }, params) => services.clients.remove(act, params.clientId),
})
