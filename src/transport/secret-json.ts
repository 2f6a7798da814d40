import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import type { ParamIssue } from '../errors.ts'
import { collectSecrets, offHeap, type SecretBytes } from '../secret.ts'
import { type Cut, cutSecrets, mayHoldSecrets, memberIssues } from './secret-json-scan.ts'
import { escapedLength, writeEscaped } from './secret-json-string.ts'

export { secretMemberNames } from './secret-json-scan.ts'

/**
 * A line taken apart; null where it is not JSON in UTF-8 without a BOM.
 *
 * `value` is what JSON.parse makes of it, but that a string named like a secret (secretMemberNames), directly in the
 * `params` of a request, is a SecretBytes. `issues` has, for each parsed request whose secret members break the
 * protocol, what is wrong with them; null where none does. `secrets` is everything that was cut out: whoever called
 * wipes it once the requests are done, and the line too.
 */
export type ParsedLine = {
  readonly value: unknown
  readonly issues: ReadonlyMap<object, readonly ParamIssue[]> | null
  readonly secrets: readonly SecretBytes[]
} | null

const noSecrets: readonly SecretBytes[] = []

/**
 * Parses one line, its `\n` excluded. Secrets are blanked in `line` itself before any of it becomes a string; a
 * malformed line answers null and what was cut out of it is wiped. Never throws.
 */
export function parseLine(line: Buffer): ParsedLine {
  if (!isUtf8(line)) return null
  if (!mayHoldSecrets(line)) {
    const value = parseJson(line)
    return value === undefined ? null : { value, issues: null, secrets: noSecrets }
  }
  const cut = cutSecrets(line)
  if (cut === null) return null
  const value = parseJson(line)
  if (value === undefined) {
    for (const secret of cut.secrets) secret.wipe()
    return null
  }
  return { value, issues: placeSecrets(value, cut), secrets: cut.secrets }
}

/** Undefined, which no JSON stands for, where the line is not JSON. The error is dropped: it quotes the line. */
function parseJson(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString())
  } catch {
    return undefined
  }
}

type Members = Record<string, unknown>

/**
 * Puts each secret in its place in `value`, which JSON.parse made of the line it was cut out of. The places are those
 * the scan met, never what the values look like, so nothing a client sends can be taken for a place.
 */
function placeSecrets(value: unknown, cut: Cut): Map<object, readonly ParamIssue[]> | null {
  let issues: Map<object, readonly ParamIssue[]> | null = null
  for (const scanned of cut.requests) {
    const request = (cut.batch ? (value as readonly unknown[])[scanned.index] : value) as Members
    const found = memberIssues(scanned)
    if (found.length > 0) {
      issues ??= new Map()
      issues.set(request, found)
    }
    // Of two `params` or two members of a name JSON.parse kept one, and it need not be the one met first.
    if (scanned.paramsCount !== 1) continue
    const params = request['params'] as Members
    for (const { name, value: secret, inParams, times } of scanned.members) {
      if (secret !== null && inParams && times === 1) params[name] = secret
    }
  }
  return issues
}

/** One or more answers, each a line. Where `hasSecrets`, `bytes` is off-heap memory that the caller wipes once written. */
export type EncodedFrame = { readonly bytes: Buffer; readonly hasSecrets: boolean }

/** Where a secret goes in JSON.stringify's text. Made anew by each process and never sent: no data can contain it. */
const hole = `~${randomBytes(16).toString('base64url')}~`

/**
 * Encodes each of `answers` as one line of JSON. A SecretBytes, however deep inside, becomes a string of its bytes,
 * which must be UTF-8, without ever being a JavaScript string. Throws what JSON.stringify throws.
 */
export function encodeFrame(answers: readonly unknown[]): EncodedFrame {
  const { text, found } = collectSecrets(hole, () => {
    let lines = ''
    for (const answer of answers) {
      const line: string | undefined = JSON.stringify(answer)
      if (line === undefined) throw new TypeError('an answer must be a JSON value')
      lines += `${line}\n`
    }
    return lines
  })
  if (found.length === 0) return { bytes: Buffer.from(text), hasSecrets: false }
  return { bytes: fillHoles(text, found), hasSecrets: true }
}

function fillHoles(text: string, secrets: readonly SecretBytes[]): Buffer {
  const places: { readonly start: number; readonly end: number; readonly length: number }[] = []
  let size = Buffer.byteLength(text)
  let from = 0
  for (let i = 0; i < secrets.length; i++) {
    // JSON.stringify writes values in the order in which it asks them for theirs.
    const start = text.indexOf(hole, from)
    const end = start + hole.length + decimalLength(i)
    if (start < 1 || text[start - 1] !== '"' || text[end] !== '"')
      throw new Error('a secret is no JSON string')
    const length = escapedLength(secrets[i]!)
    places.push({ start, end, length })
    size += length - (end - start)
    from = end
  }
  const bytes = offHeap(size)
  let at = 0
  from = 0
  for (let i = 0; i < secrets.length; i++) {
    const { start, end, length } = places[i]!
    at += bytes.write(text.slice(from, start), at)
    at = writeEscaped(bytes, at, secrets[i]!.bytes, length)
    from = end
  }
  if (at + bytes.write(text.slice(from), at) !== size) {
    bytes.fill(0)
    throw new Error('an answer did not come out as long as planned')
  }
  return bytes
}

function decimalLength(value: number): number {
  return value < 10 ? 1 : String(value).length
}
