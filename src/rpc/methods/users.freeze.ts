import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, user, userId } from '../schemas.ts'

export const usersFreeze = defineMethod({
  name: 'users.freeze',
  summary: 'stops what grants money or hands out secrets for one user',
  scope: 'freeze',
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ userId, reason: clientString }),
  result: user,
  handler: async ({ services, act }, params) => {
    await services.freeze.freezeUser(act, params.userId, params.reason)
    return await services.users.get(params.userId, act)
  },
})
