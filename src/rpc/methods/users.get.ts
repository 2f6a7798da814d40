import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { user, userId } from '../schemas.ts'

export const usersGet = defineMethod({
  name: 'users.get',
  summary: 'one user',
  scope: 'admin',
  about: 'user',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ userId }),
  result: user,
  handler: ({ services, act }, params) => services.users.get(params.userId, act),
})
