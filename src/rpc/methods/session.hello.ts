import { z } from 'zod'
import { defineMethod } from '../method.ts'
import { clientString, secret } from '../schemas.ts'

export const sessionHello = defineMethod({
  name: 'session.hello',
  summary: 'says who is calling and asks who one is taken for',
  scope: 'anyone',
  about: 'nothing',
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
    if (params.token !== undefined) session.present(params.token)
    if (params.client !== undefined) session.client = params.client
    const { uid, gid, pid } = session.peer
    const { role, entry, users } = session.identity
    services.clients.used(entry)
    return {
      server: 'purser',
      version: services.system.version,
      protocol: 1,
      identity: {
        uid,
        gid,
        pid,
        client: entry?.name ?? null,
        role,
        users: users === '*' ? '*' : [...users],
        scopes: entry === null ? (role === 'admin' ? ['admin'] : []) : [...entry.grant.scopes],
      },
      sealed: services.sealing.sealed,
    }
  },
})
