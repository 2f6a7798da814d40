import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { timeOut } from '../schemas.ts'

export const systemPing = defineMethod({
  name: 'system.ping',
  summary: 'answers at once',
  scope: 'anyone',
  about: 'nothing',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({}),
  result: z.strictObject({ pong: z.literal(true), at: timeOut }),
  handler: () => ({ pong: true, at: new Date().toISOString() }),
})
