import { offHeap, type SecretBytes } from '../../secret.ts'
import type { SourceError } from './source-error.ts'

/** The two key services, as the child process is told in its arguments. */
export type RemoteKind = 'aws-kms' | 'vault'

/** A variable for the child. Secret ones are bytes, so that the daemon never has a string of them. */
export type Variable = readonly [name: string, value: string | SecretBytes]

/** The variables of a request together: a system's whole environment is smaller. */
export const requestBytesMax = 128 * 1024

/** `NAME=value` and a zero byte for each, and one more at the end, as in /proc/PID/environ. The caller wipes it. */
export function encodeRequest(variables: readonly Variable[]): Buffer {
  const parts = variables.map(([name, value]) => ({
    name: Buffer.from(`${name}=`),
    value: typeof value === 'string' ? Buffer.from(value) : value.bytes,
  }))
  const length = parts.reduce((sum, { name, value }) => sum + name.length + value.length + 1, 1)
  if (length > requestBytesMax) throw new RangeError('the environment of a key service is too large')
  const request = offHeap(length)
  let at = 0
  for (const { name, value } of parts) {
    request.set(name, at)
    request.set(value, at + name.length)
    at += name.length + value.length + 1
  }
  return request
}

/** The variables of a request that has arrived whole (see isWholeRequest). */
export function decodeRequest(request: Buffer): Record<string, string> {
  const variables: Record<string, string> = {}
  for (const line of request.toString('utf8').split('\0')) {
    const equals = line.indexOf('=')
    if (equals > 0) variables[line.slice(0, equals)] = line.slice(equals + 1)
  }
  return variables
}

/** Whether the end of a request has arrived. It is no empty variable: names are never empty. */
export function isWholeRequest(request: Buffer): boolean {
  const { length } = request
  return length > 0 && request[length - 1] === 0 && (length === 1 || request[length - 2] === 0)
}

/** What the child says on its one line of stderr: why there is no key, or what to tell the operator beside the key. */
export type ChildReport =
  | { readonly reason: string; readonly hint: string; readonly exit: 'masterKey' | 'config' }
  | { readonly warning: string }

export function encodeReport(report: ChildReport): string {
  return `${JSON.stringify(report)}\n`
}

export function reportOf(error: SourceError): ChildReport {
  return { reason: error.message, hint: error.hint, exit: error.exit }
}

const textCharactersMax = 1_000

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= textCharactersMax
}

/** The report in what a child wrote to stderr, where it is that one line and nothing else; else null. */
export function decodeReport(text: string): ChildReport | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof parsed !== 'object' || parsed === null) return null
  const { reason, hint, exit, warning } = parsed as Record<string, unknown>
  if (isText(warning)) return { warning }
  if (!isText(reason) || !isText(hint) || (exit !== 'masterKey' && exit !== 'config')) return null
  return { reason, hint, exit }
}
