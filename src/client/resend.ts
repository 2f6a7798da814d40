import type { MethodTable } from './types.ts'

/**
 * Whether a method may be sent again by itself when the connection breaks before its answer: `read` changes
 * nothing and is not audited, so twice is as good as once; `act` is everything else, `credentials.retrieve`
 * included (each retrieve is an audited release). Its keys are also the list of methods at run time.
 */
export const resendTable = {
  session: { hello: 'act' },
  system: {
    ping: 'read',
    health: 'read',
    status: 'read',
    metrics: 'read',
    freeze: 'act',
    unfreeze: 'act',
    seal: 'act',
    unseal: 'act',
  },
  rpc: { discover: 'read' },
  users: {
    put: 'act',
    get: 'read',
    list: 'read',
    freeze: 'act',
    unfreeze: 'act',
    resetDecryptions: 'act',
  },
  credentials: {
    store: 'act',
    retrieve: 'act',
    get: 'read',
    list: 'read',
    expiring: 'read',
    update: 'act',
    revoke: 'act',
    replace: 'act',
    rotate: 'act',
  },
  spend: {
    check: 'read',
    reserve: 'act',
    capture: 'act',
    void: 'act',
    record: 'act',
    status: 'read',
    usage: 'read',
  },
  reservations: { list: 'read' },
  positions: { list: 'read', close: 'act' },
  audit: { query: 'read', verify: 'read', failures: 'read' },
  clients: { add: 'act', update: 'act', list: 'read', remove: 'act' },
  master: { rotate: 'act', reseal: 'act', status: 'read' },
  backup: { create: 'act' },
} as const satisfies { [G in keyof MethodTable]: { [N in keyof MethodTable[G]]: 'read' | 'act' } }

const reads: ReadonlySet<string> = new Set(
  Object.entries(resendTable).flatMap(([group, methods]) =>
    Object.entries(methods)
      .filter(([, kind]) => kind === 'read')
      .map(([name]) => `${group}.${name}`),
  ),
)

/** An id of the caller's makes the second sending the same act (the daemon answers a retry with its first answer). */
const retryIds = ['idempotencyKey', 'intentId'] as const

/**
 * Acts of the ledger that are their own retry without such an id: a trade is counted once, by capture or record, and
 * what closed a reservation is answered again. Not `positions.close`, whose `tradeId` names what it acts on.
 */
function isOwnRetry(method: string, params: Readonly<Record<string, unknown>>): boolean {
  const namesTrade = params['tradeId'] !== undefined
  switch (method) {
    case 'spend.capture':
      return namesTrade || params['final'] !== false
    case 'spend.record':
      return namesTrade
    case 'spend.void':
      return true
    default:
      return false
  }
}

/** True where sending the same request twice cannot do anything twice. */
export function isResendable(method: string, params: Readonly<Record<string, unknown>>): boolean {
  return (
    reads.has(method) || retryIds.some((id) => typeof params[id] === 'string') || isOwnRetry(method, params)
  )
}
