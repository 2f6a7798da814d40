import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const masterStatus = defineMethod({
  name: 'master.status',
  summary: 'which master key opens the store, and how far a rotation or reseal is',
  scope: 'admin',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({}),
  result: z.strictObject({
    epoch: z.int(),
    keyId: z.string(),
    oldKeyRetired: z.boolean(),
    job: z
      .strictObject({
        kind: z.enum(['rotate', 'reseal']),
        state: z.enum(['running', 'paused', 'done', 'failed']),
        done: z.int(),
        total: z.int(),
      })
      .nullable(),
  }),
  handler: ({ services, act }) => services.sealingJobs.status(act),
})
