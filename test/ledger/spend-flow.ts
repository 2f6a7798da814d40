import { randomBytes } from 'node:crypto'
import type { StartPurserOptions, TestPurser } from '../../src/testing/index.ts'
import { startFlow } from '../support/flow.ts'
import type { Answer } from '../support/raw-client.ts'
import { RawClient } from '../support/raw-client.ts'

/** What the daemon answers is what a test looks into. */
// biome-ignore lint/suspicious/noExplicitAny: see above
export type Result = any

export type AuditView = {
  seq: number
  action: string
  userId: string | null
  credentialId: number | null
  outcome: string
  details: Record<string, unknown>
}

/** A real daemon and a connection of plain bytes, for the flows of the ledger. */
export class SpendFlow implements AsyncDisposable {
  readonly purser: TestPurser
  client: RawClient
  #names = 0

  private constructor(purser: TestPurser) {
    this.purser = purser
    this.client = new RawClient(purser.socketPath)
  }

  static async start(options: StartPurserOptions = {}): Promise<SpendFlow> {
    return new SpendFlow(await startFlow(options))
  }

  /** The result; throws where it was refused. */
  async call(method: string, params: object = {}): Promise<Result> {
    const answer = await this.client.call(method, params)
    if (answer.error !== undefined) throw new Error(`${method}: ${JSON.stringify(answer.error)}`)
    return answer.result
  }

  /** The error's data with its code; throws where it was granted. */
  async refused(method: string, params: object = {}): Promise<{ code: number; type: string } & Result> {
    return refusalOf(await this.client.call(method, params))
  }

  /** A user of this test's own, tier free unless told otherwise. */
  async user(more: object = {}): Promise<string> {
    const userId = `user-${++this.#names}-${randomBytes(3).toString('hex')}`
    await this.call('users.put', { userId, ...more })
    return userId
  }

  /** A credential; the user's first is the primary. */
  async credential(userId: string, more: object = {}): Promise<number> {
    const { credentialId } = await this.call('credentials.store', {
      userId,
      apiKey: `key-${++this.#names}-${randomBytes(6).toString('hex')}`,
      apiSecret: `${randomBytes(32).toString('base64url')}=`,
      ...more,
    })
    return credentialId
  }

  status(userId: string, credentialId?: number): Promise<Result> {
    return this.call('spend.status', { userId, ...(credentialId === undefined ? {} : { credentialId }) })
  }

  reserve(userId: string, amountUsd: string | number, more: object = {}): Promise<Result> {
    return this.call('spend.reserve', { userId, amountUsd, ...more })
  }

  record(userId: string, amountUsd: string | number, more: object = {}): Promise<Result> {
    return this.call('spend.record', { userId, amountUsd, ...more })
  }

  capture(reservationId: string, more: object = {}): Promise<Result> {
    return this.call('spend.capture', { reservationId, ...more })
  }

  void(reservationId: string, more: object = {}): Promise<Result> {
    return this.call('spend.void', { reservationId, ...more })
  }

  /** The user's audit entries, oldest first. */
  async entries(userId: string, more: object = {}): Promise<AuditView[]> {
    const { entries } = await this.call('audit.query', { userId, limit: 1000, ...more })
    return entries.toReversed()
  }

  /** The last entry of all. */
  async head(): Promise<number> {
    return (await this.call('audit.query', { limit: 1 })).entries[0].seq
  }

  async restart(): Promise<void> {
    this.client.close()
    await this.purser.restart()
    this.client = new RawClient(this.purser.socketPath)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.close()
    await this.purser.stop()
  }
}

export function refusalOf(answer: Answer): { code: number; type: string } & Result {
  if (answer.error === undefined) throw new Error(`granted: ${JSON.stringify(answer.result)}`)
  return { code: answer.error.code, ...answer.error.data }
}

/** The next UTC midnight, as an answer has it. */
export function nextMidnight(): string {
  const dayMs = 86_400_000
  return new Date((Math.floor(Date.now() / dayMs) + 1) * dayMs).toISOString()
}

/** Milliseconds to the next UTC midnight: a flow that counts a day must not run over one. */
export async function awayFromMidnight(neededMs: number): Promise<void> {
  const leftMs = Date.parse(nextMidnight()) - Date.now()
  if (leftMs < neededMs) await new Promise((resolve) => setTimeout(resolve, leftMs + 100))
}
