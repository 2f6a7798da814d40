import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/** An AWS access key as the service knows it. */
export type AccessKey = { readonly secret: string; readonly sessionToken?: string; readonly denied?: boolean }

/** Why a request is refused, by AWS's name for it; or who sent it. */
export type Verdict = { readonly error: string } | { readonly accessKey: AccessKey }

export type SigningScope = {
  readonly region: string
  readonly service: string
  readonly nowMs: number
  readonly accessKeys: ReadonlyMap<string, AccessKey>
}

/** AWS takes a request whose date is at most this far from its own clock. */
const skewMsMax = 5 * 60_000

const sha256 = (data: Buffer | string) => createHash('sha256').update(data).digest('hex')
const hmac = (key: Buffer | string, data: string) => createHmac('sha256', key).update(data).digest()

function headerText(request: IncomingMessage, name: string): string {
  const value = request.headers[name]
  return (Array.isArray(value) ? value.join(',') : (value ?? '')).trim().replace(/ +/g, ' ')
}

/** What must be signed: host and every x-amz header, or whoever is on the way could change it. */
function missesSignedHeader(request: IncomingMessage, signed: readonly string[]): boolean {
  const needed = Object.keys(request.headers).filter((name) => name.startsWith('x-amz-'))
  return !['host', 'content-type', ...needed].every((name) => signed.includes(name))
}

function canonicalRequest(request: IncomingMessage, signed: readonly string[], body: Buffer): string {
  const url = new URL(request.url ?? '/', 'http://host')
  const query = [...url.searchParams]
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .sort()
    .join('&')
  const headers = signed.map((name) => `${name}:${headerText(request, name)}\n`).join('')
  return [request.method, url.pathname, query, headers, signed.join(';'), sha256(body)].join('\n')
}

function dateOf(text: string): number {
  const match = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text)
  return match === null
    ? Number.NaN
    : Date.parse(text.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5'))
}

/** Checks an AWS4-HMAC-SHA256 signature by computing it anew from what arrived, as the service does. */
export function verifySignature(request: IncomingMessage, body: Buffer, scope: SigningScope): Verdict {
  const authorization = headerText(request, 'authorization')
  if (authorization === '') return { error: 'MissingAuthenticationTokenException' }
  const match =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/.exec(
      authorization,
    )
  if (match === null) return { error: 'IncompleteSignatureException' }
  const [, id = '', day = '', region = '', service = '', signedText = '', signature = ''] = match
  const accessKey = scope.accessKeys.get(id)
  if (accessKey === undefined) return { error: 'UnrecognizedClientException' }
  if (headerText(request, 'x-amz-security-token') !== (accessKey.sessionToken ?? ''))
    return { error: 'UnrecognizedClientException' }
  const date = headerText(request, 'x-amz-date')
  const signed = signedText.split(';')
  const wrong =
    region !== scope.region ||
    service !== scope.service ||
    !date.startsWith(day) ||
    missesSignedHeader(request, signed) ||
    signedText !== [...signed].sort().join(';') ||
    !(Math.abs(dateOf(date) - scope.nowMs) <= skewMsMax)
  const stringToSign = [
    'AWS4-HMAC-SHA256',
    date,
    `${day}/${region}/${service}/aws4_request`,
    sha256(canonicalRequest(request, signed, body)),
  ].join('\n')
  const key = [day, region, service, 'aws4_request'].reduce<Buffer | string>(hmac, `AWS4${accessKey.secret}`)
  const expected = hmac(key, stringToSign)
  if (wrong || !timingSafeEqual(expected, Buffer.from(signature, 'hex')))
    return { error: 'InvalidSignatureException' }
  return { accessKey }
}
