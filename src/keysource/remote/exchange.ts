import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { LookupFunction } from 'node:net'
import { isLoopback } from './endpoint.ts'
import { SourceError } from './source-error.ts'

/** One request. Where it goes was checked by endpointProblem, but is checked again here. */
export type Request = {
  readonly method: string
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  /** Stays the caller's to wipe. */
  readonly body: Uint8Array | null
  /** Certificates (PEM) to trust in place of the usual ones. */
  readonly ca?: string | undefined
  readonly signal: AbortSignal
}

export type Answer = {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** The caller wipes it. */
  readonly body: Buffer
}

/** An answer of a key service is a few kilobytes; what is larger is something else. */
const answerBytesMax = 256 * 1024

/** Without a name server, which need not agree with RFC 6761. */
const lookupLoopback: LookupFunction = (_hostname, options, callback) => {
  if (options.all === true) {
    callback(null, [
      { address: '127.0.0.1', family: 4 },
      { address: '::1', family: 6 },
    ])
  } else callback(null, '127.0.0.1', 4)
}

/**
 * Sends one request on a connection of its own and answers whatever comes back whole: no redirect is followed, no
 * proxy used, no certificate taken on trust. The answer is bounded. Throws SourceError, or the signal's reason.
 */
export async function exchange(request: Request): Promise<Answer> {
  const { url } = request
  const secure = url.protocol === 'https:'
  if (!secure && !(url.protocol === 'http:' && isLoopback(url.hostname))) {
    throw new SourceError(
      `its address ${url.protocol}//${url.host} is not https`,
      'give an https address; http is for this host alone',
      { exit: 'config' },
    )
  }
  const options: RequestOptions = {
    method: request.method,
    headers: request.headers,
    // No connection is kept: the process ends when its few requests are done.
    agent: false,
    ...(url.hostname === 'localhost' ? { lookup: lookupLoopback } : {}),
  }
  const sent = secure
    ? httpsRequest(url, { ...options, ...(request.ca === undefined ? {} : { ca: request.ca }) })
    : httpRequest(url, options)
  const abort = () => sent.destroy(request.signal.reason as Error)
  request.signal.addEventListener('abort', abort)
  try {
    if (request.signal.aborted) abort()
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      sent.once('response', resolve)
      sent.on('error', reject)
      sent.end(request.body ?? undefined)
    })
    const body = await readBody(response)
    return { status: response.statusCode ?? 0, headers: plainHeaders(response), body }
  } catch (error) {
    if (error instanceof SourceError) throw error
    if (request.signal.aborted) throw request.signal.reason
    throw unreachable(url, error)
  } finally {
    request.signal.removeEventListener('abort', abort)
    sent.destroy()
  }
}

async function readBody(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > answerBytesMax) {
      throw new SourceError(
        `its answer is longer than ${answerBytesMax / 1024} KiB`,
        'see whether the address is that of the key service',
      )
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function plainHeaders(response: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(response.headers)) headers[name] = String(value)
  return headers
}

/** What the TLS layer of Node says, by the beginning of its code. */
const certificateCodes =
  /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_CERT_|HOSTNAME_MISMATCH|INVALID_CA)/

function unreachable(url: URL, error: unknown): SourceError {
  const { code } = error as NodeJS.ErrnoException
  const named = typeof code === 'string' && /^[A-Z0-9_]{1,60}$/.test(code) ? code : 'unknown reason'
  if (certificateCodes.test(named)) {
    return new SourceError(
      `the certificate of ${url.host} is not trusted (${named})`,
      'trust its CA by VAULT_CACERT (Vault) or NODE_EXTRA_CA_CERTS (AWS)',
      { cause: error },
    )
  }
  if (named === 'EPROTO' || named.startsWith('ERR_SSL_')) {
    return new SourceError(
      `${url.host} does not speak TLS as expected (${named})`,
      'see whether the port is right',
      {
        cause: error,
      },
    )
  }
  if (named.startsWith('HPE_')) {
    return new SourceError(`${url.host} does not speak HTTP (${named})`, 'see whether the port is right', {
      cause: error,
    })
  }
  return new SourceError(
    `${url.host} cannot be reached (${named})`,
    'see whether it runs and this host reaches it',
    {
      retry: true,
      cause: error,
    },
  )
}
