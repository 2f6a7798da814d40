import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const auditVerify = defineMethod({
  name: 'audit.verify',
  summary: 'walks the audit chain',
  scope: 'audit:read',
  about: 'everything',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ fromSeq: z.int().positive().optional() }),
  result: z.strictObject({
    ok: z.boolean(),
    entries: z.int(),
    headSeq: z.int(),
    headHash: z.string(),
    firstBadSeq: z.int().nullable(),
    macChecked: z.boolean(),
  }),
  handler: async ({ services, act }, params) => {
    const found = await services.audit.verify(act, params.fromSeq)
    const { ok, entries, headSeq, firstBadSeq, macChecked } = found
    return { ok, entries, headSeq, headHash: found.headHash.toString('hex'), firstBadSeq, macChecked }
  },
})
