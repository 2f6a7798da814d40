import { z } from 'zod'
import { PurserError } from '../../errors.ts'
import { defineMethod } from '../method.ts'
import { clientString, secret } from '../schemas.ts'

export const sessionHello = defineMethod({
  name: 'session.hello',
  summary: 'says who is calling and asks who one is taken for',
  scope: 'anyone',
  belowReserve: 'works',
  whileSealed: 'works',
  large: false,
  params: z.strictObject({ client: clientString.optional(), token: secret.optional() }),
  result: z.strictObject({
    server: z.string(),
    version: z.string(),
    protocol: z.literal(1),
    identity: z.strictObject({
      uid: z.int(),
      gid: z.int(),
      pid: z.int(),
      client: z.string().nullable(),
      role: z.enum(['admin', 'client', 'none']),
      users: z.union([z.literal('*'), z.array(z.string())]),
      scopes: z.array(z.string()),
    }),
    sealed: z.boolean(),
  }),
  handler: ({ session, services }, params) => {
    if (params.token !== undefined) {
      // No token was ever given out, so every one is wrong; what follows on this connection is not carried out.
      session.closing = true
      throw new PurserError('Forbidden', { scope: null }, { message: 'the token is not valid' })
    }
    if (params.client !== undefined) session.client = params.client
    const { uid, gid, pid } = session.peer
    const admin = session.role === 'admin'
    return {
      server: 'purser',
      version: services.system.version,
      protocol: 1,
      identity: {
        uid,
        gid,
        pid,
        client: null,
        role: session.role,
        users: admin ? '*' : [],
        scopes: admin ? ['admin'] : [],
      },
      sealed: false,
    }
  },
})
