import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const backupCreate = defineMethod({
  name: 'backup.create',
  summary: 'writes a copy of the store',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'refused',
  whileSealed: 'refused',
  large: false,
  params: z.strictObject({ path: z.string().min(1).max(4096).optional() }),
  result: z.strictObject({ path: z.string(), bytes: z.int(), sha256: z.string(), keyId: z.string() }),
  handler: ({ services, act }, params) => services.system.backup(act, params.path),
})
