import { createHash } from 'node:crypto'
import Database from 'better-sqlite3'
import type { SealedCredential } from '../../src/store/operations.ts'
import { statementsOf } from '../../src/store/sqlite/statements.ts'
import { DerivationQueue } from '../../src/vault/derivation-queue.ts'
import { type Keyring, openKeyring } from '../../src/vault/keyring.ts'
import { Vault } from '../../src/vault/vault.ts'
import type { RawClient } from './raw-client.ts'

/** What a bot knows of a credential of its own. */
type Known = { apiKey: string; passphrase: string; signOnly: boolean; revoked: boolean }
type Act = { readonly method: string; readonly params: Record<string, unknown> }

/**
 * A bot that works with its own user without a pause while everything is sealed anew: it retrieves, reserves, stores,
 * replaces, revokes and makes keys sign-only, and holds every answer against what it knows. Nothing may be refused.
 */
export class Bot {
  readonly userId: string
  readonly credentials = new Map<number, Known>()
  acts = 0
  /** What was on the way when the daemon was killed. */
  pending: Act | null = null
  readonly #random: () => number
  readonly #credentialsMax: number
  #unique = 0

  constructor(userId: string, random: () => number, credentialsMax: number) {
    this.userId = userId
    this.#random = random
    this.#credentialsMax = credentialsMax
  }

  /** Stores `count` credentials, some at a time. */
  async begin(client: RawClient, count: number): Promise<void> {
    let left = count
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        while (left-- > 0) {
          const act = this.#store()
          const { result, error } = await client.call(act.method, act.params)
          if (error !== undefined) throw new Error(`${this.userId}: ${JSON.stringify(error)}`)
          this.#learn(act, result.credentialId)
        }
      }),
    )
  }

  /** Works until `ended`; rejects at the first answer that is not what it should be. */
  async work(client: RawClient, ended: () => boolean): Promise<void> {
    while (!ended()) {
      const act = this.#choose()
      this.pending = act
      const { result, error } = await client.call(act.method, act.params)
      const about = () => `${this.userId}: ${act.method} ${JSON.stringify(act.params)}`
      if (error !== undefined) throw new Error(`${about()} was refused: ${JSON.stringify(error)}`)
      if (act.method === 'credentials.retrieve') this.#expect(result, about)
      else this.#learn(act, result.credentialId)
      this.pending = null
      this.acts += 1
    }
  }

  /** After a kill: the act that was on the way happened or did not, and the store says which. */
  settle(apiKeys: ReadonlyMap<number, string>, rows: readonly StoredRow[]): void {
    const act = this.pending
    this.pending = null
    if (act === null) return
    const id = act.params['credentialId'] as number | undefined
    if (act.method === 'credentials.store') {
      const row = rows.find(({ credentialId }) => apiKeys.get(credentialId) === act.params['apiKey'])
      if (row !== undefined) this.#learn(act, row.credentialId)
    } else if (id !== undefined) {
      const row = rows.find(({ credentialId }) => credentialId === id)!
      const happened = {
        'credentials.replace': apiKeys.get(id) === act.params['apiKey'],
        'credentials.revoke': row.revoked,
        'credentials.update': row.privateKeyPolicy === 'sign-only',
      }
      if (happened[act.method as keyof typeof happened]) this.#learn(act, undefined)
    }
  }

  #expect(result: Record<string, unknown>, about: () => string): void {
    const known = this.credentials.get(result['credentialId'] as number)!
    const right =
      result['apiKey'] === known.apiKey &&
      result['passphrase'] === known.passphrase &&
      result['privateKey'] === (known.signOnly ? null : keyOf(known.passphrase))
    if (!right) throw new Error(`${about()} answered ${JSON.stringify(result)}, not ${JSON.stringify(known)}`)
  }

  #learn({ method, params }: Act, storedId: number | undefined): void {
    if (method === 'credentials.store') {
      const { apiKey, passphrase } = params as { apiKey: string; passphrase: string }
      this.credentials.set(storedId!, { apiKey, passphrase, signOnly: false, revoked: false })
      return
    }
    const known = this.credentials.get(params['credentialId'] as number)
    if (known === undefined) return
    if (method === 'credentials.replace') known.apiKey = params['apiKey'] as string
    if (method === 'credentials.revoke') known.revoked = true
    if (method === 'credentials.update') known.signOnly = true
  }

  #store(): Act {
    const unique = `${this.userId}-${++this.#unique}`
    const secrets = { apiKey: unique, apiSecret: 'AAAA', passphrase: unique, privateKey: keyOf(unique) }
    return { method: 'credentials.store', params: { userId: this.userId, ...secrets } }
  }

  #choose(): Act {
    const { userId } = this
    const usable = [...this.credentials].filter(([, { revoked }]) => !revoked).map(([id]) => id)
    const credentialId = usable[Math.floor(this.#random() * usable.length)]
    const roll = this.#random()
    const few = this.credentials.size < this.#credentialsMax
    if (credentialId === undefined || (roll < 0.15 && few)) return this.#store()
    const one = { userId, credentialId }
    if (roll < 0.6) return { method: 'credentials.retrieve', params: one }
    if (roll < 0.75) return { method: 'spend.reserve', params: { ...one, amountUsd: '0.01' } }
    if (roll < 0.88) {
      const apiKey = `${userId}-${++this.#unique}`
      return { method: 'credentials.replace', params: { ...one, apiKey, apiSecret: 'AAAA' } }
    }
    if (roll < 0.94)
      return { method: 'credentials.update', params: { ...one, privateKeyPolicy: 'sign-only' } }
    return usable.length > 2
      ? { method: 'credentials.revoke', params: one }
      : { method: 'credentials.retrieve', params: one }
  }
}

/** A private key that its name is enough to know. */
function keyOf(name: string): string {
  return `0x${createHash('sha256').update(name).digest('hex')}`
}

export type StoredRow = SealedCredential & { readonly revoked: boolean }

/** What lies in a store that nobody has open, opened by `key`: every envelope, whatever became of its credential. */
export async function openStored(
  path: string,
  key: Buffer,
): Promise<{ keyring: Keyring; rows: StoredRow[]; apiKeys: Map<number, string> }> {
  const database = new Database(path)
  try {
    database.defaultSafeIntegers(true)
    const statements = statementsOf(database)
    const keyring = openKeyring(key, {
      storeId: statements.storeGet()!.storeId,
      rows: statements.masterKeys(),
    })
    const vault = new Vault({
      keyring,
      queue: new DerivationQueue(undefined, 1_000_000),
      kdf: { memoryKib: 8, iterations: 1 },
    })
    const revoked = new Set(
      database
        .prepare('SELECT credential_id FROM credentials WHERE revoked_at_ms IS NOT NULL')
        .safeIntegers(false)
        .pluck()
        .all(),
    )
    const rows = statements
      .credentialsSealed(0, Number.MAX_SAFE_INTEGER, 1_000_000)
      .map((row) => ({ ...row, revoked: revoked.has(row.credentialId) }))
    const apiKeys = new Map<number, string>()
    await Promise.all(
      rows.map(async (row) => {
        const opened = await vault.open(row.envelope, row)
        apiKeys.set(row.credentialId, opened.apiKey.toString())
        opened.release()
      }),
    )
    return { keyring, rows, apiKeys }
  } finally {
    database.close()
  }
}
