import { isUtf8 } from 'node:buffer'
import { errorTable } from '../../src/errors.ts'

/** What the contract says of the answer to any line, short of what its methods do. */

const batchMax = 100
const invalidRequest = 'null -32600'
const parseError = 'null -32700'

/** The answer to expect for a line (its newline excluded): one key, a sorted list of keys for an array, or none. */
export function expectedAnswer(line: Buffer): string | null {
  if (line.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)) return null
  if (!isUtf8(line)) return parseError
  let value: unknown
  try {
    value = JSON.parse(line.toString())
  } catch {
    return parseError
  }
  if (!Array.isArray(value)) return keyOfMember(value)
  if (value.length === 0 || value.length > batchMax) return invalidRequest
  const keys = value.flatMap((member) => keyOfMember(member) ?? [])
  return keys.length === 0 ? null : `[${keys.sort().join(',')}]`
}

/** The key of what is answered to one request: its id; null for a notification. */
function keyOfMember(value: unknown): string | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return invalidRequest
  const { jsonrpc, method, id, result, error } = value as Record<string, unknown>
  // Something with a result or an error is an answer.
  if (jsonrpc !== '2.0' || typeof method !== 'string' || result !== undefined || error !== undefined)
    return invalidRequest
  if (!Object.hasOwn(value, 'id')) return null
  if (id !== null && typeof id !== 'string' && !Number.isSafeInteger(id)) return invalidRequest
  return JSON.stringify(id)
}

const codes = new Map<number, string[]>()
for (const [type, { code }] of Object.entries(errorTable)) codes.set(code, [...(codes.get(code) ?? []), type])

/**
 * The key of an answer as it came. Throws where it is not formed as the contract has it, or is an error that no client
 * may be able to bring about: an internal error, or a store that does not work.
 */
export function keyOfAnswer(line: string): string {
  const answer: unknown = JSON.parse(line)
  if (!Array.isArray(answer)) return keyOfResponse(answer, line)
  if (answer.length === 0 || answer.length > batchMax)
    throw new Error(`an array of ${answer.length}: ${line}`)
  return `[${answer
    .map((one) => keyOfResponse(one, line))
    .sort()
    .join(',')}]`
}

function keyOfResponse(response: unknown, line: string): string {
  const wrong = (what: string) => new Error(`${what}: ${line.slice(0, 2000)}`)
  if (typeof response !== 'object' || response === null) throw wrong('no object')
  const { jsonrpc, id, result, error, ...others } = response as Record<string, unknown>
  if (jsonrpc !== '2.0' || id === undefined || Object.keys(others).length > 0)
    throw wrong('no JSON-RPC 2.0 answer')
  if ((result === undefined) === (error === undefined)) throw wrong('neither result nor error, or both')
  if (error === undefined) return JSON.stringify(id)
  const { code, message, data } = error as { code: number; message: unknown; data: Record<string, unknown> }
  const { type, retryable, hint } = data
  if (typeof message !== 'string' || typeof retryable !== 'boolean' || typeof hint !== 'string')
    throw wrong('no error of ours')
  if (!codes.get(code)?.includes(type as string)) throw wrong('unknown error')
  if (type === 'InternalError' || type === 'StorageUnavailable' || type === 'DecryptionFailed')
    throw wrong('a fault of purser')
  const isOfLine = code === -32600 || code === -32700
  if (isOfLine && id !== null) throw wrong('an id where the line has none')
  return isOfLine ? `null ${code}` : JSON.stringify(id)
}
