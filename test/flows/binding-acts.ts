import { expect } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import type { Answer } from '../support/raw-client.ts'

// The acts that bind, what they do to the answer of a retrieve, and what must not leave after them.

const [{ privateKey }, other] = hardhatKeys
export const old = { apiKey: 'old-key', apiSecret: apiSecret(1), passphrase: 'old-passphrase', privateKey }
const fresh = {
  apiKey: 'new-key',
  apiSecret: apiSecret(2),
  passphrase: 'new-passphrase',
  privateKey: other.privateKey,
}

export type BindingAct = {
  readonly name: 'revoke' | 'expiry' | 'replace' | 'sign-only'
  readonly method: string
  readonly params: object
  /** What a retrieve answers from then on. */
  readonly afterwards: object
  /** What is in no byte that is handed over after its answer. */
  readonly forbidden: readonly string[]
}

export const bindingActs: readonly BindingAct[] = [
  {
    name: 'revoke',
    method: 'credentials.revoke',
    params: {},
    afterwards: { error: { code: 2003 } },
    forbidden: Object.values(old),
  },
  {
    name: 'expiry',
    method: 'credentials.update',
    params: { expiresAt: '2020-01-01T00:00:00Z' },
    afterwards: { error: { code: 2004 } },
    forbidden: Object.values(old),
  },
  {
    name: 'replace',
    method: 'credentials.replace',
    params: fresh,
    afterwards: { result: fresh },
    forbidden: Object.values(old),
  },
  {
    name: 'sign-only',
    method: 'credentials.update',
    params: { privateKeyPolicy: 'sign-only' },
    afterwards: { result: { ...old, privateKey: null } },
    forbidden: [privateKey],
  },
]

export function expectNothingForbidden(text: string, { forbidden }: BindingAct): void {
  for (const secret of forbidden) expect(text).not.toContain(secret)
}

export const request = (id: string, method: string, params: object) => ({
  jsonrpc: '2.0',
  id,
  method,
  params,
})

/** Requests (or a batch) as lines. */
export const lines = (...messages: object[]) => messages.map((one) => `${JSON.stringify(one)}\n`).join('')

export const byId = (answers: Answer | Answer[], id: string) =>
  [answers].flat().find((answer) => answer.id === id)
