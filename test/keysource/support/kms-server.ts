import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Interjection, type Served, serve } from './serve.ts'
import { type AccessKey, verifySignature } from './sigv4.ts'

const region = 'eu-test-1'
const jsonType = 'application/x-amz-json-1.1'

/** A refusal as KMS writes it: status 400, but 500 for its own failures. */
class KmsError extends Error {
  readonly status: number

  constructor(name: string, status = 400) {
    super(name)
    this.name = name
    this.status = status
  }
}

/** What arrived, for a test to look at. */
export type KmsRequest = { readonly target: string; readonly body: Record<string, unknown> }

/**
 * AWS KMS as far as Encrypt and Decrypt go, by the AWS JSON 1.1 protocol: it checks the signature of every request,
 * the target and the content type, and answers errors as KMS does.
 */
export class KmsServer {
  readonly requests: KmsRequest[] = []
  /** Taken first, one a request; null answers that request as it deserves. */
  readonly interjections: (Interjection | null)[] = []
  readonly accessKeys = new Map<string, AccessKey>([['AKIDPURSER', { secret: 'kms/secret+key' }]])
  /** Milliseconds by which the service's clock is ahead. */
  clockAheadMs = 0
  readonly #keys = new Map<string, Buffer>()
  #served: Served | null = null

  static async start(tls?: { key: string; cert: string }): Promise<KmsServer> {
    const server = new KmsServer()
    server.#served = await serve((request, body, response) => server.#take(request, body, response), tls)
    return server
  }

  get port(): number {
    return this.#served!.port
  }

  /** Variables by which a client gets here with credentials that are good. */
  get env(): Record<string, string> {
    return {
      AWS_REGION: region,
      AWS_ENDPOINT_URL: `http://127.0.0.1:${this.port}`,
      AWS_ACCESS_KEY_ID: 'AKIDPURSER',
      AWS_SECRET_ACCESS_KEY: 'kms/secret+key',
    }
  }

  /** Makes a KMS key; answers its id. */
  createKey(): string {
    const id = randomBytes(16).toString('hex')
    this.#keys.set(id, randomBytes(32))
    return id
  }

  /** Ciphertext of `plaintext` under a key of this service, as base64. */
  encrypt(keyId: string, plaintext: Buffer, context: Record<string, string> = {}): string {
    const key = this.#keys.get(keyId.replace(/^arn:.*:key\//, ''))
    if (key === undefined) throw new KmsError('NotFoundException')
    const nonce = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(JSON.stringify(context)))
    const sealed = Buffer.concat([cipher.update(plaintext), cipher.final()])
    return Buffer.concat([Buffer.from(keyId, 'hex'), nonce, cipher.getAuthTag(), sealed]).toString('base64')
  }

  async close(): Promise<void> {
    await this.#served?.close()
  }

  #take(request: IncomingMessage, body: Buffer, response: ServerResponse): void {
    const now = Date.now() + this.clockAheadMs
    response.setHeader('date', new Date(now).toUTCString())
    const target = String(request.headers['x-amz-target'])
    this.requests.push({ target, body: JSON.parse(body.toString() || '{}') as Record<string, unknown> })
    const interjection = this.interjections.shift()
    if (interjection !== undefined && interjection !== null) {
      interjection(response, request)
      return
    }
    try {
      this.#authorise(request, body, now)
      const answer = this.#act(request, target, JSON.parse(body.toString()) as Record<string, unknown>)
      response.writeHead(200, { 'content-type': jsonType, 'x-amzn-requestid': 'test' })
      response.end(JSON.stringify(answer))
    } catch (error) {
      if (!(error instanceof KmsError)) throw error
      response.writeHead(error.status, { 'content-type': jsonType })
      response.end(JSON.stringify({ __type: error.name, message: 'quoting the secret kms/secret+key' }))
    }
  }

  #authorise(request: IncomingMessage, body: Buffer, nowMs: number): void {
    const scope = { region, service: 'kms', nowMs, accessKeys: this.accessKeys }
    const verdict = verifySignature(request, body, scope)
    if ('error' in verdict) throw new KmsError(verdict.error)
    if (verdict.accessKey.denied === true) throw new KmsError('AccessDeniedException')
  }

  #act(request: IncomingMessage, target: string, params: Record<string, unknown>): unknown {
    const isPost = request.method === 'POST' && request.url === '/'
    if (!isPost || request.headers['content-type'] !== jsonType)
      throw new KmsError('UnknownOperationException')
    if (target === 'TrentService.Decrypt') return this.#decrypt(params)
    if (target !== 'TrentService.Encrypt') throw new KmsError('UnknownOperationException')
    const plaintext = Buffer.from(String(params['Plaintext']), 'base64')
    const keyId = String(params['KeyId'])
    const CiphertextBlob = this.encrypt(keyId, plaintext, params['EncryptionContext'] as undefined)
    return { CiphertextBlob, KeyId: arn(keyId), EncryptionAlgorithm: 'SYMMETRIC_DEFAULT' }
  }

  #decrypt(params: Record<string, unknown>): unknown {
    const blob = Buffer.from(String(params['CiphertextBlob']), 'base64')
    const keyId = blob.toString('hex', 0, 16)
    const key = this.#keys.get(keyId)
    if (key === undefined) throw new KmsError('InvalidCiphertextException')
    const asked = params['KeyId']
    if (asked !== undefined && asked !== keyId && asked !== arn(keyId))
      throw new KmsError('IncorrectKeyException')
    try {
      const opener = createDecipheriv('aes-256-gcm', key, blob.subarray(16, 28))
        .setAAD(Buffer.from(JSON.stringify(params['EncryptionContext'] ?? {})))
        .setAuthTag(blob.subarray(28, 44))
      const plaintext = Buffer.concat([opener.update(blob.subarray(44)), opener.final()])
      return {
        KeyId: arn(keyId),
        Plaintext: plaintext.toString('base64'),
        EncryptionAlgorithm: 'SYMMETRIC_DEFAULT',
      }
    } catch {
      throw new KmsError('InvalidCiphertextException')
    }
  }
}

function arn(keyId: string): string {
  return `arn:aws:kms:${region}:111122223333:key/${keyId}`
}
