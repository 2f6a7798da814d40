import type { ErrorData, ErrorType } from './errors.ts'
import { ProtocolError, PurserError } from './errors.ts'

/** One answer taken apart: `id` is null where the daemon could not tell which request it answers. */
export type Answer =
  | { readonly id: number; readonly error: null; readonly result: unknown }
  | { readonly id: number | null; readonly error: PurserError; readonly result: null }

/** JSON-RPC's own codes, for an answer without `data.type`. */
const typeOfCode: Readonly<Record<number, ErrorType>> = {
  [-32700]: 'ParseError',
  [-32600]: 'InvalidRequest',
  [-32601]: 'MethodNotFound',
  [-32602]: 'InvalidParams',
}

/** Reads one line of the daemon's. Throws ProtocolError for anything that is no answer. */
export function parseAnswer(line: string): Answer {
  const answer = parseObject(line)
  const { id, error } = answer
  if (answer['jsonrpc'] !== '2.0') throw new ProtocolError('an answer is not JSON-RPC 2.0')
  if (id !== null && !Number.isSafeInteger(id))
    throw new ProtocolError('an answer has an id that was never sent')
  if (error === undefined) {
    if (id === null || !Object.hasOwn(answer, 'result'))
      throw new ProtocolError('an answer has neither result nor error')
    return { id: id as number, error: null, result: answer['result'] }
  }
  if (Object.hasOwn(answer, 'result')) throw new ProtocolError('an answer has both result and error')
  return { id: id as number | null, error: toPurserError(error), result: null }
}

function parseObject(line: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    // The parser's message quotes what it read, which may be a secret: not kept as the cause.
    throw new ProtocolError('an answer is not JSON')
  }
  return asObject(value) ?? fail()
}

function fail(): never {
  throw new ProtocolError('an answer is not a JSON object')
}

function toPurserError(error: unknown): PurserError {
  const fields = asObject(error)
  if (fields === null || typeof fields['code'] !== 'number' || typeof fields['message'] !== 'string')
    throw new ProtocolError('an error without code and message')
  const data = asObject(fields['data']) ?? {}
  const type =
    typeof data['type'] === 'string'
      ? (data['type'] as ErrorType)
      : (typeOfCode[fields['code']] ?? 'InternalError')
  // The daemon is trusted to send what section 4 of the protocol lists for the type.
  const typed = data as ErrorData[typeof type] & Record<string, unknown>
  return new PurserError(type, fields['code'], fields['message'], typed) as PurserError
}

function asObject(value: unknown): Record<string, unknown> | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null
}
