import type { JSONRPCRequest, JSONRPCResponse } from 'json-rpc-2.0'
import { errorTable, type ParamIssue, PurserError } from '../errors.ts'
import type { SecretBytes } from '../secret.ts'

/** Requests in one batch. */
const batchMax = 100

/** A line of a connection, parsed, from its turn to its answer. */
export type Line = {
  readonly value: unknown
  readonly issues: ReadonlyMap<object, readonly ParamIssue[]> | null
  readonly secrets: readonly SecretBytes[]
  /** What it is answered with where it is not JSON; else null. */
  readonly error: PurserError | null
  /** What it counts for against the bounds on what is in flight: requests, and bytes as they came. */
  readonly requests: number
  readonly bytes: number
}

/** How many requests a line counts for; an invalid batch does not count for more than a valid one can. */
export function requestsIn(value: unknown): number {
  return Array.isArray(value) ? Math.max(1, Math.min(value.length, batchMax)) : 1
}

/** What a line is answered with that is neither a request nor a batch of 1 to 100 members; null where it is one. */
export function invalidLine({ value, error }: Line): JSONRPCResponse | null {
  if (error !== null) return errorResponse(null, error)
  if (!Array.isArray(value)) return isRequest(value) ? null : refusedMember(value, null)
  if (value.length > 0 && value.length <= batchMax) return null
  const message = value.length === 0 ? 'an empty batch' : `a batch of more than ${batchMax} requests`
  return errorResponse(null, new PurserError('InvalidRequest', {}, { message }))
}

/** `error` for a request, nothing for a notification, InvalidRequest for what is neither. */
export function refusedMember(member: unknown, error: PurserError | null): JSONRPCResponse | null {
  if (!isRequest(member) || error === null) return errorResponse(null, new PurserError('InvalidRequest'))
  return member.id === undefined ? null : errorResponse(member.id, error)
}

/** What a whole line is answered with that is not carried out: an error for each request, null for no answer. */
export function refusedLine(line: Line, error: PurserError): object | null {
  const invalid = invalidLine(line)
  if (invalid !== null) return invalid
  if (!Array.isArray(line.value)) return refusedMember(line.value, error)
  const responses = line.value.flatMap((member) => refusedMember(member, error) ?? [])
  return responses.length > 0 ? responses : null
}

/** Whether `value` is a JSON-RPC 2.0 request or notification. */
export function isRequest(value: unknown): value is JSONRPCRequest {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const { jsonrpc, method, id, result, error } = value as Record<string, unknown>
  if (jsonrpc !== '2.0' || typeof method !== 'string' || result !== undefined || error !== undefined)
    return false
  return id === undefined || id === null || typeof id === 'string' || Number.isSafeInteger(id)
}

/** The JSON-RPC error object for `error`. */
export function errorResponse(id: JSONRPCRequest['id'], error: PurserError): JSONRPCResponse {
  const { retryable } = errorTable[error.type]
  const data =
    error.type === 'InternalError'
      ? { type: error.type, retryable, hint: error.hint, errorId: error.data['errorId'] }
      : { type: error.type, retryable, hint: error.hint, ...error.data }
  return { jsonrpc: '2.0', id: id ?? null, error: { code: error.code, message: error.message, data } }
}

/** Wipes what was cut out of a line. */
export function wipeSecrets(line: Line): void {
  for (const secret of line.secrets) secret.wipe()
}
