/**
 * `purser/client`: talk to purserd from a bot. Runs on Node 20 and later, needs nothing but Node.
 *
 *     import { connect, PurserError } from 'purser/client'
 *
 *     await using client = await connect({ client: 'market-maker/1.4' })
 *     const credential = await client.credentials.retrieve({ userId: 'alice' })
 */
export type { CallOptions } from './call.ts'
export { connect, PurserClient } from './client.ts'
export type { ErrorData, ErrorType, ParamIssue, PurserErrorOf } from './errors.ts'
export {
  CallTimeoutError,
  ClientClosedError,
  ConnectError,
  ConnectionLostError,
  isPurserError,
  ProtocolError,
  PurserClientError,
  PurserError,
  QueueFullError,
  TokenError,
} from './errors.ts'
export type { CallArguments, CallResult, Group } from './groups.ts'
export type { ConnectOptions } from './options.ts'
export type { Paginated } from './paginate.ts'
export type * from './types.ts'
