import type { KMSClient } from '@aws-sdk/client-kms'
import type { MasterKeyBytes } from '../parse-key.ts'
import { exchange } from './exchange.ts'
import { keyFrom } from './key-material.ts'
import { SourceError } from './source-error.ts'
import { type RequestLimits, withTries } from './tries.ts'

/** Decrypts `ciphertext`, which names its KMS key itself; `keyId` demands that it be that one. Throws SourceError. */
export async function decryptWithKms(
  request: { readonly ciphertext: Uint8Array; readonly keyId: string | null },
  limits: RequestLimits,
): Promise<MasterKeyBytes> {
  const { KMSClient, DecryptCommand } = await import('@aws-sdk/client-kms')
  const client = new KMSClient(clientSettings())
  const { ciphertext, keyId } = request
  const command = new DecryptCommand({
    CiphertextBlob: ciphertext,
    ...(keyId === null ? {} : { KeyId: keyId }),
  })
  const { Plaintext: plaintext } = await tried(client, limits, (abortSignal) =>
    client.send(command, { abortSignal }),
  )
  if (plaintext === undefined) throw malformedAnswer()
  try {
    return keyFrom(plaintext, 'raw')
  } finally {
    plaintext.fill(0)
  }
}

/** Encrypts a master key, as its 32 bytes, under the KMS key `keyId`. Throws SourceError. */
export async function encryptWithKms(
  request: { readonly key: MasterKeyBytes; readonly keyId: string },
  limits: RequestLimits,
): Promise<Uint8Array> {
  const { KMSClient, EncryptCommand } = await import('@aws-sdk/client-kms')
  const client = new KMSClient(clientSettings())
  const command = new EncryptCommand({ KeyId: request.keyId, Plaintext: request.key })
  const { CiphertextBlob } = await tried(client, limits, (abortSignal) =>
    client.send(command, { abortSignal }),
  )
  if (CiphertextBlob === undefined) throw malformedAnswer()
  return CiphertextBlob
}

function clientSettings() {
  disableInstanceMetadata()
  // The tries are ours (withTries), so that every source has the same.
  return { maxAttempts: 1, requestHandler: { ...handler } }
}

/**
 * Without other credentials the SDK asks 169.254.169.254, over plain http, which off EC2 is whoever answers there. So
 * only where the operator says so, by the SDK's own variables or by `credential_source` in a profile.
 */
function disableInstanceMetadata(): void {
  const { env } = process
  if (env['AWS_EC2_METADATA_SERVICE_ENDPOINT'] === undefined) env['AWS_EC2_METADATA_DISABLED'] ??= 'true'
}

/** What the SDK hands its HTTP layer, as far as it is used here. */
type SdkRequest = {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly path: string
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** The SDK's HTTP layer, for KMS and for the services that give credentials: bounded, https, no redirects. */
const handler = {
  async handle(request: SdkRequest, options: { abortSignal?: AbortSignal } = {}) {
    const answer = await exchange({
      method: request.method,
      url: urlOf(request),
      headers: request.headers,
      body: bodyOf(request.body),
      signal: options.abortSignal ?? new AbortController().signal,
    })
    return { response: { statusCode: answer.status, headers: answer.headers, body: answer.body } }
  },
  updateHttpClientConfig: () => undefined,
  httpHandlerConfigs: () => ({}),
  destroy: () => undefined,
}

function urlOf({ protocol, hostname, port, path, query = {} }: SdkRequest): URL {
  const url = new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`)
  url.pathname = path
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(name, one ?? '')
  }
  return url
}

function bodyOf(body: unknown): Uint8Array | null {
  if (body === undefined || body === null) return null
  if (body instanceof Uint8Array) return body
  if (typeof body === 'string') return Buffer.from(body)
  throw new SourceError('the AWS SDK made a request of an unknown form', 'report this')
}

async function tried<T>(
  client: KMSClient,
  limits: RequestLimits,
  send: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  try {
    return await withTries(limits, async (signal) => {
      try {
        return await send(signal)
      } catch (error) {
        throw asSourceError(error)
      }
    })
  } finally {
    client.destroy()
  }
}

/** Names by which KMS and the services before it say: later. */
const laterNames = new Set([
  'Throttling',
  'ThrottlingException',
  'ThrottledException',
  'TooManyRequestsException',
  'RequestLimitExceeded',
  'RequestThrottledException',
  'LimitExceededException',
  'SlowDown',
  'DependencyTimeoutException',
  'KeyUnavailableException',
  'KMSInternalException',
  'InternalFailure',
  'ServiceUnavailable',
  'RequestTimeout',
  'RequestTimeoutException',
  'TimeoutError',
])

const hints: Readonly<Record<string, string>> = {
  AccessDeniedException: 'allow kms:Decrypt (`purser key wrap`: kms:Encrypt) on the key to these credentials',
  InvalidCiphertextException:
    'ENCRYPTED_MASTER_KEY was not encrypted in this region and account, or was altered; it has no encryption context',
  IncorrectKeyException: 'AWS_KMS_KEY_ID is not the key that ENCRYPTED_MASTER_KEY was encrypted under',
  NotFoundException: 'see whether the KMS key is in this region and account',
  DisabledException: 'enable the KMS key',
  KMSInvalidStateException: 'see the state of the KMS key: pending deletion or import',
  UnrecognizedClientException: 'the AWS access key is unknown: correct the credentials',
  InvalidClientTokenId: 'the AWS access key is unknown: correct the credentials',
  InvalidSignatureException: 'correct the AWS secret key, and see whether the clock is right',
  SignatureDoesNotMatch: 'correct the AWS secret key, and see whether the clock is right',
  ExpiredTokenException: 'the AWS session has expired: renew the credentials',
  ExpiredToken: 'the AWS session has expired: renew the credentials',
  ThrottlingException: 'try again later',
}

type SdkError = {
  readonly name?: unknown
  readonly message?: unknown
  readonly $metadata?: { readonly httpStatusCode?: number; readonly clockSkewCorrected?: boolean }
}

/** Only the name of an error is passed on: the text of a bad signature quotes the session token. */
function asSourceError(error: unknown): SourceError {
  if (error instanceof SourceError) return error
  const { name, message, $metadata = {} } = (error ?? {}) as SdkError
  if (message === 'Region is missing') {
    return new SourceError('no AWS region is set', 'set AWS_REGION, or region in the profile', {
      exit: 'config',
    })
  }
  if (name === 'CredentialsProviderError') {
    return new SourceError(
      'no AWS credentials were found',
      'give them as the AWS SDK reads them; those of the EC2 instance with AWS_EC2_METADATA_DISABLED=false',
    )
  }
  const named = typeof name === 'string' && /^[A-Za-z][A-Za-z0-9_.]{0,63}$/.test(name) ? name : 'Error'
  const status = $metadata.httpStatusCode
  if (status === undefined || (status >= 200 && status < 400)) {
    if (status !== undefined && status >= 300) {
      return new SourceError(`it redirects elsewhere (${status})`, 'give the address it redirects to')
    }
    return malformedAnswer(named)
  }
  const retry =
    laterNames.has(named) || status === 429 || status >= 500 || $metadata.clockSkewCorrected === true
  return new SourceError(
    `it answered ${named} (${status})`,
    hints[named] ?? 'see the AWS KMS documentation of this error',
    {
      retry,
    },
  )
}

function malformedAnswer(name = 'no plaintext'): SourceError {
  return new SourceError(
    `its answer is not that of AWS KMS (${name})`,
    'see whether the endpoint is that of AWS KMS',
  )
}
