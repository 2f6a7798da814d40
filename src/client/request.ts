import { PurserError } from './errors.ts'

/** What the daemon takes in one line, without its newline; a longer one would cost the whole connection. */
const requestBytesMax = 65_536

/** Deeper params than any method has; the bound keeps a cyclic object from exhausting the stack. */
const depthMax = 32

/**
 * One request as a line. Throws TypeError for what JSON would silently turn into null (NaN, Infinity, an invalid
 * Date): null means "clear" in some params, so a miscalculated limit would otherwise remove the limit. Throws
 * PurserError FrameTooLarge for a request the daemon would not read.
 */
export function encodeRequest(id: number, method: string, params: Readonly<Record<string, unknown>>): string {
  if (typeof params !== 'object' || params === null || Array.isArray(params))
    throw new TypeError('params is not an object')
  refuseSilentNulls(params, 0)
  const line = `${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`
  // A UTF-16 unit is at most three bytes: most lines need no counting.
  if (line.length * 3 > requestBytesMax && Buffer.byteLength(line) - 1 > requestBytesMax)
    throw new PurserError('FrameTooLarge', -32600, `request longer than ${requestBytesMax} bytes`, {
      type: 'FrameTooLarge',
      retryable: false,
      hint: `nothing was sent; a request holds at most ${requestBytesMax} bytes`,
    })
  return line
}

function refuseSilentNulls(value: unknown, depth: number): void {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError('params hold NaN or Infinity')
  if (typeof value === 'bigint') throw new TypeError('params hold a bigint: pass a decimal string')
  if (typeof value !== 'object' || value === null) return
  if (value instanceof Date && Number.isNaN(value.getTime()))
    throw new TypeError('params hold an invalid Date')
  if (depth >= depthMax) throw new TypeError(`params are nested more than ${depthMax} deep`)
  for (const member of Object.values(value)) refuseSilentNulls(member, depth + 1)
}
