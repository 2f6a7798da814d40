import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Interjection, type Served, serve } from './serve.ts'

const secretPath = 'secret/data/polymarket/master_encryption_key'

/** A token as the server knows it. A batch token lives nowhere and cannot be revoked. */
type Token = { readonly namespace: string; readonly policy: 'read' | 'write' | 'none' }

type Version = { data: Record<string, unknown> | null; deletedAt: string }

/** What arrived, for a test to look at. */
export type VaultRequest = {
  readonly method: string
  readonly path: string
  readonly token: string | null
  readonly namespace: string
  readonly body: Record<string, unknown>
}

/**
 * Vault as far as AppRole login, KV version 2 and revoke-self go: namespaces, tokens with policies, secret ids that are
 * used up, versions that are deleted, check-and-set, and the bodies of its errors.
 */
export class VaultServer {
  readonly requests: VaultRequest[] = []
  /** Taken first, one a request; null answers that request as it deserves. */
  readonly interjections: (Interjection | null)[] = []
  readonly tokens = new Map<string, Token>()
  /** Secret ids of a role; each may be used as often as it says. */
  readonly roles = new Map<string, Map<string, number>>()
  sealed = false
  /** What the tokens of logins look like: `hvs.` service, `hvb.` batch. */
  tokenPrefix = 'hvs.'
  readonly #secrets = new Map<string, Version[]>()
  #served: Served | null = null
  #scheme: 'http' | 'https' = 'http'

  static async start(tls?: { key: string; cert: string }): Promise<VaultServer> {
    const server = new VaultServer()
    server.#scheme = tls === undefined ? 'http' : 'https'
    server.#served = await serve((request, body, response) => server.#take(request, body, response), tls)
    return server
  }

  get port(): number {
    return this.#served!.port
  }

  get address(): string {
    return `${this.#scheme}://127.0.0.1:${this.port}`
  }

  /** A token that may read the secret of `namespace`. */
  createToken(policy: Token['policy'] = 'read', namespace = ''): string {
    const token = `hvs.${randomBytes(24).toString('base64url')}`
    this.tokens.set(token, { namespace, policy })
    return token
  }

  /** A role with one secret id that may be used `uses` times. */
  createRole(uses = Number.POSITIVE_INFINITY): { roleId: string; secretId: string } {
    const [roleId, secretId] = [randomBytes(16).toString('hex'), randomBytes(16).toString('hex')]
    this.roles.set(roleId, new Map([[secretId, uses]]))
    return { roleId, secretId }
  }

  put(data: Record<string, unknown>, namespace = ''): void {
    const versions = this.#secrets.get(namespace) ?? []
    this.#secrets.set(namespace, [...versions, { data, deletedAt: '' }])
  }

  /** The data of the newest version. */
  get(namespace = ''): Record<string, unknown> | null {
    return this.#secrets.get(namespace)?.at(-1)?.data ?? null
  }

  deleteNewest(namespace = ''): void {
    const newest = this.#secrets.get(namespace)?.at(-1)
    if (newest !== undefined) Object.assign(newest, { data: null, deletedAt: '2026-01-02T03:04:05.678Z' })
  }

  async close(): Promise<void> {
    await this.#served?.close()
  }

  #take(request: IncomingMessage, body: Buffer, response: ServerResponse): void {
    const header = (name: string) => (request.headers[name] as string | undefined) ?? null
    const seen: VaultRequest = {
      method: String(request.method),
      path: String(request.url).replace(/^\/v1\//, ''),
      token: header('x-vault-token'),
      namespace: header('x-vault-namespace') ?? '',
      body: JSON.parse(body.toString() || '{}') as Record<string, unknown>,
    }
    this.requests.push(seen)
    const interjection = this.interjections.shift()
    if (interjection !== undefined && interjection !== null) {
      interjection(response, request)
      return
    }
    const [status, answer] =
      header('x-vault-request') !== 'true'
        ? [412, { errors: ["required 'X-Vault-Request' header missing"] }]
        : this.#answer(seen)
    response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    response.end(answer === null ? '' : `${JSON.stringify(answer)}\n`)
  }

  #answer(request: VaultRequest): [number, unknown] {
    if (this.sealed) return [503, { errors: ['Vault is sealed'] }]
    const { method, path } = request
    if (method === 'POST' && path === 'auth/approle/login') return this.#logIn(request)
    const token = this.tokens.get(request.token ?? '')
    const isBatch = /^hvb\./.test(request.token ?? '')
    if (token === undefined || token.namespace !== request.namespace) return denied
    if (method === 'POST' && path === 'auth/token/revoke-self') {
      if (isBatch) return [400, { errors: ['batch tokens cannot be revoked'] }]
      this.tokens.delete(request.token ?? '')
      return [204, null]
    }
    if (path !== secretPath) return [404, { errors: [`no handler for route "${path}"`] }]
    if (token.policy === 'none') return denied
    if (method === 'GET') return this.#read(request.namespace)
    return method === 'POST' && token.policy === 'write' ? this.#write(request) : denied
  }

  #logIn({ body, namespace }: VaultRequest): [number, unknown] {
    const secretIds = this.roles.get(String(body['role_id']))
    const secretId = String(body['secret_id'])
    const left = secretIds?.get(secretId) ?? 0
    if (secretIds === undefined || left === 0) return [400, { errors: ['invalid role or secret ID'] }]
    secretIds.set(secretId, left - 1)
    const token = `${this.tokenPrefix}${randomBytes(24).toString('base64url')}`
    this.tokens.set(token, { namespace, policy: 'read' })
    const auth = { client_token: token, accessor: 'a', policies: ['purser'], lease_duration: 1200 }
    return [200, { ...envelope(null), auth: { ...auth, renewable: true, token_type: 'service' } }]
  }

  #read(namespace: string): [number, unknown] {
    const versions = this.#secrets.get(namespace) ?? []
    const newest = versions.at(-1)
    if (newest === undefined) return [404, { errors: [] }]
    const metadata = {
      created_time: '2026-01-02T03:04:05.678Z',
      custom_metadata: null,
      deletion_time: newest.deletedAt,
      destroyed: false,
      version: versions.length,
    }
    return [newest.data === null ? 404 : 200, envelope({ data: newest.data, metadata })]
  }

  #write({ body, namespace }: VaultRequest): [number, unknown] {
    const versions = this.#secrets.get(namespace) ?? []
    const { cas } = (body['options'] ?? {}) as { cas?: number }
    if (cas !== undefined && cas !== versions.length) {
      return [400, { errors: ['check-and-set parameter did not match the current version'] }]
    }
    this.put(body['data'] as Record<string, unknown>, namespace)
    return [200, envelope({ version: versions.length + 1, destroyed: false, deletion_time: '' })]
  }
}

const denied: [number, unknown] = [403, { errors: ['1 error occurred:\n\t* permission denied\n\n'] }]

function envelope(data: unknown): Record<string, unknown> {
  return {
    request_id: '5c1f0a6b-0000-4000-8000-000000000000',
    lease_id: '',
    renewable: false,
    lease_duration: 0,
    data,
    wrap_info: null,
    warnings: null,
    auth: null,
  }
}
