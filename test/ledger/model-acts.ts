import fc from 'fast-check'
import type { Act } from '../../src/service/act.ts'
import type { Outcome } from './model.ts'
import type { Step, World } from './model-world.ts'

const step = <P>(
  name: string,
  given: object,
  params: (world: World) => P,
  model: (world: World, params: P) => Outcome,
  real: (world: World, act: Act, params: P) => Promise<unknown>,
): Step => {
  // Both sides get the very same params: those of the moment at which the real side is asked.
  let asked: P
  return {
    text: `${name} ${JSON.stringify(given, (_key, value) => (typeof value === 'bigint' ? `${value}` : value))}`,
    model: (world) => model(world, asked),
    real: (world, act) => {
      asked = params(world)
      return real(world, act, asked)
    },
  }
}

export const usd = (dollars: number) => BigInt(Math.round(dollars * 1_000_000))
const amount = fc.constantFrom(
  ...[100, 50, 50, 30, 30, 20, 33.333333, 0.000001, 99.999999, 100.000001, 1000].map(usd),
)
const part = fc.option(fc.constantFrom(...[50, 20, 33.333333, 0.000001, 100, 10].map(usd)), {
  nil: undefined,
})
export const weighted = <T>(...of: [weight: number, value: T][]) =>
  fc.oneof(...of.map(([weight, value]) => ({ weight, arbitrary: fc.constant(value) })))
const userIndex = weighted([12, 0], [3, 1], [1, 2])
const credentialIndex = weighted<number | undefined>([8, undefined], [4, 0], [2, 1], [1, 2], [1, 3])
const key = weighted<string | undefined>([4, undefined], [2, 'k1'], [1, 'k2'])
const trade = weighted<string | undefined>([4, undefined], [2, 't1'], [1, 't2'])
const ttl = fc.option(fc.constantFrom(1, 60, 3600, 86_400), { nil: undefined })

export const spendStep = fc
  .record({ user: userIndex, credential: credentialIndex, of: amount, key, ttl, trade })
  .chain(({ user, credential, of, key: idempotencyKey, ttl: ttlSeconds, trade: tradeId }) => {
    const params = (world: World) => ({
      userId: world.user(user),
      credentialId: world.credential(credential),
      amountUsd: world.amount(of),
    })
    const given = { user, credential, of }
    return fc.oneof(
      {
        weight: 5,
        arbitrary: fc.constant(
          step(
            'reserve',
            { ...given, idempotencyKey, ttlSeconds },
            (world) => ({ ...params(world), idempotencyKey, ttlSeconds }),
            (world, p) => world.model.reserve(p),
            (world, act, p) => world.ledger.reserving.reserve(act, p),
          ),
        ),
      },
      fc.constant(
        step(
          'check',
          given,
          params,
          (world, p) => world.model.check(p),
          (world, act, p) => world.ledger.reserving.check(act, p),
        ),
      ),
      {
        weight: 2,
        arbitrary: fc.constant(
          step(
            'record',
            { ...given, idempotencyKey, tradeId },
            (world) => ({ ...params(world), idempotencyKey, tradeId }),
            (world, p) => world.model.record(p),
            (world, act, p) => world.ledger.settling.record(act, p),
          ),
        ),
      },
    )
  })

const captureStep = fc
  .record({ hold: fc.nat({ max: 32 }), of: part, trade, final: fc.option(fc.boolean(), { nil: undefined }) })
  .map(({ hold, of, trade: tradeId, final }) =>
    step(
      'capture',
      { hold, of, tradeId, final },
      (world) => ({ reservationId: world.hold(hold), amountUsd: world.amount(of), tradeId, final }),
      (world, p) => world.model.capture(p),
      (world, act, p) => world.ledger.settling.capture(act, p),
    ),
  )

const voidStep = fc
  .record({ hold: fc.nat({ max: 32 }), reason: fc.option(fc.constant('no fill'), { nil: undefined }) })
  .map(({ hold, reason }) =>
    step(
      'void',
      { hold, reason },
      (world) => ({ reservationId: world.hold(hold), reason }),
      (world, p) => world.model.void(p),
      (world, act, p) => world.ledger.settling.void(act, p),
    ),
  )

const closeStep = fc
  .record({ user: userIndex, position: fc.nat({ max: 32 }), of: part, trade, key })
  .map(({ user, position, of, trade: tradeId, key: idempotencyKey }) =>
    step(
      'close',
      { user, position, of, tradeId, idempotencyKey },
      (world) => ({
        userId: world.user(user),
        positionId: tradeId === undefined ? world.position(position) : undefined,
        tradeId,
        amountUsd: world.amount(of),
        idempotencyKey,
      }),
      (world, p) => world.model.close(p),
      (world, act, p) => world.ledger.settling.close(act, p),
    ),
  )

const state = fc.constantFrom('held', 'captured', 'voided', 'expired')
export const readStep = fc
  .record({
    user: userIndex,
    credential: credentialIndex,
    state,
    open: fc.constantFrom('open', 'closed', undefined),
  })
  .chain(({ user, credential, state: wanted, open }) =>
    fc.constantFrom(
      step(
        'status',
        { user, credential },
        (world) => ({ userId: world.user(user), credentialId: world.credential(credential) }),
        (world, p) => world.model.status(p),
        (world, act, p) => world.ledger.reports.status(act, p),
      ),
      step(
        'reservations',
        { user, wanted },
        (world) => ({ userId: world.user(user), state: wanted as 'held' }),
        (world, p) => world.model.reservations(p),
        async (world, act, p) =>
          (await world.ledger.reports.reservations(act, { ...p, limit: 1000 })).reservations,
      ),
      step(
        'positions',
        { user, open },
        (world) => ({ userId: world.user(user), state: open as 'open' | undefined }),
        (world, p) => world.model.positionsOf(p),
        async (world, act, p) => (await world.ledger.reports.positions(act, { ...p, limit: 1000 })).positions,
      ),
    ),
  )

export const anyStep = fc.oneof(
  { weight: 9, arbitrary: spendStep },
  { weight: 4, arbitrary: captureStep },
  { weight: 1, arbitrary: voidStep },
  { weight: 2, arbitrary: closeStep },
)
