import { PurserError } from '../../errors.ts'
import type { RetryKey, Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'

/** Params after parsing, in the order of the protocol's page; what is absent is null. */
export type RetryParams = Readonly<Record<string, string | number | boolean | null>>

/**
 * The first answer of an act that was accepted under this id with the same params, null where the id is new. Conflict,
 * naming the first param that differs, where it was given with others.
 */
export function* firstAnswer<T>(key: RetryKey, params: RetryParams): Transaction<T | null> {
  const known = yield* perform('retryGet', key)
  if (known === undefined) return null
  const before = JSON.parse(known.params) as RetryParams
  const fields = [...Object.keys(params), ...Object.keys(before)]
  const field = fields.find((name) => (params[name] ?? null) !== (before[name] ?? null))
  if (field !== undefined) {
    // A trade is one act: captured once or recorded once, and `method` is no param of either.
    const told = field === 'method' ? 'tradeId' : field
    throw new PurserError(
      'Conflict',
      { resource: key.space === 'trade' ? 'tradeId' : 'idempotencyKey', field: told },
      {
        message: `this id was given before with ${field === 'method' ? 'another method' : `another ${field}`}`,
        hint: 'a retry repeats every param; a new act takes a new id',
      },
    )
  }
  return JSON.parse(known.answer) as T
}

/** Binds an id to the act it was accepted for, for the life of the ledger. */
export function bindRetry(key: RetryKey, params: RetryParams, answer: object): Transaction<void> {
  return perform('retryInsert', key, JSON.stringify(params), JSON.stringify(answer))
}
