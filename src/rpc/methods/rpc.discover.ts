import { z } from 'zod'
import { defineMethod } from '../method.ts'

export const rpcDiscover = defineMethod({
  name: 'rpc.discover',
  summary: 'the OpenRPC document of every method',
  scope: 'entry',
  about: 'nothing',
  belowReserve: 'works',
  whileSealed: 'works',
  large: true,
  params: z.strictObject({}),
  result: z.looseObject({ openrpc: z.string() }),
  handler: ({ discover }) => discover(),
})
