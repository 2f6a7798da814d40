import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { userId } from '../schemas.ts'

export const usersResetDecryptions = defineMethod({
  name: 'users.resetDecryptions',
  summary: "empties the user's decryption window",
  scope: 'admin',
  about: 'user',
  belowReserve: 'refused',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ userId }),
  result: z.strictObject({ cleared: z.int() }),
  handler: ({ services, act }, params) => services.users.resetDecryptions(act, params.userId),
})
