import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { user, userId } from '../schemas.ts'

export const usersUnfreeze = defineMethod({
  name: 'users.unfreeze',
  summary: "lifts a user's freeze",
  scope: 'admin',
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ userId }),
  result: user,
  handler: async ({ services, act }, params) => {
    await services.freeze.unfreezeUser(act, params.userId)
    return await services.users.get(params.userId, act)
  },
})
