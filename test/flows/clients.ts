import type { RawClient } from '../support/raw-client.ts'
import type { Story } from './story.ts'

export type Given = {
  users?: '*' | readonly (string | number)[]
  credentials?: readonly number[]
  scopes?: readonly string[]
  expiresAt?: string
  name?: string
}

export type TokenClient = { clientId: number; token: string; client: RawClient }

let count = 0

/** Adds a client with a token and answers a connection that has presented it; users `*` and scope `spend` unless told. */
export async function tokenClient(story: Story, given: Given = {}): Promise<TokenClient> {
  const params = { name: `bot-${process.pid}-${count++}`, users: '*', scopes: ['spend'], ...given }
  const { clientId, token } = await story.ok('clients.add', { ...params, token: true })
  return { clientId, token, client: await presenting(story, token) }
}

/** A new connection that has presented `token`. */
export async function presenting(story: Story, token: string): Promise<RawClient> {
  const client = story.connect()
  await story.ok('session.hello', { token }, client)
  return client
}

/** What takes a retrieve of alice's first credential away from a client. */
export const takingAway: { name: string; method: string; params: object }[] = [
  { name: 'removal', method: 'clients.remove', params: {} },
  { name: 'fewer scopes', method: 'clients.update', params: { scopes: ['spend'] } },
  { name: 'other users', method: 'clients.update', params: { users: ['bob'] } },
  { name: 'other credentials', method: 'clients.update', params: { credentials: [999] } },
  { name: 'a past expiry', method: 'clients.update', params: { expiresAt: '2020-01-01T00:00:00Z' } },
]
