import { describe, expectTypeOf, test } from 'vitest'
import type {
  AuditEntry,
  Credential,
  CredentialMetadata,
  CredentialUsage,
  ErrorData,
  ErrorType,
  Hello,
  Item,
  ListMethod,
  MethodName,
  MethodTable,
  Params,
  Position,
  PurserErrorOf,
  Reservation,
  Result,
  SpendStatus,
  User,
} from '../../src/client/index.ts'
import { isPurserError, type PurserClient, PurserError } from '../../src/client/index.ts'

/** Never run: the compiler checks these when the project is type-checked. */
function compiled(_check: (client: PurserClient) => void): void {}

describe('types', () => {
  test('every group of the table is on the client, every error type has data', () => {
    expectTypeOf<keyof MethodTable>().toExtend<keyof PurserClient>()
    expectTypeOf<keyof ErrorData>().toEqualTypeOf<ErrorType>()
    expectTypeOf<'credentials.retrieve' | 'system.ping'>().toExtend<MethodName>()
    expectTypeOf<ListMethod>().toEqualTypeOf<
      | 'users.list'
      | 'credentials.list'
      | 'credentials.expiring'
      | 'spend.usage'
      | 'reservations.list'
      | 'positions.list'
      | 'clients.list'
      | 'audit.query'
    >()
  })

  test('params and results by wire name', () => {
    expectTypeOf<Result<'credentials.retrieve'>>().toEqualTypeOf<Credential>()
    expectTypeOf<Result<'session.hello'>>().toEqualTypeOf<Hello>()
    expectTypeOf<Params<'credentials.get'>>().toEqualTypeOf<{
      userId: string | number
      credentialId: number
    }>()
    expectTypeOf<Item<'users.list'>>().toEqualTypeOf<User>()
    expectTypeOf<Item<'credentials.expiring'>>().toEqualTypeOf<CredentialMetadata>()
    expectTypeOf<Item<'spend.usage'>>().toEqualTypeOf<CredentialUsage>()
    expectTypeOf<Item<'reservations.list'>>().toEqualTypeOf<Reservation>()
    expectTypeOf<Item<'positions.list'>>().toEqualTypeOf<Position>()
    expectTypeOf<Result<'spend.status'>>().toEqualTypeOf<SpendStatus>()
    expectTypeOf<Result<'users.freeze'>>().toEqualTypeOf<User>()
  })

  test('grouped methods', () => {
    compiled((client) => {
      expectTypeOf(client.credentials.retrieve({ userId: 1 })).resolves.toEqualTypeOf<Credential>()
      expectTypeOf(client.system.ping()).resolves.toEqualTypeOf<{ pong: true; at: string }>()
      expectTypeOf(client.audit.query({}, { timeoutMs: 5 })).resolves.toHaveProperty('entries')
      void client.credentials.store({ userId: 'a', apiKey: 'k', apiSecret: 's', expiresAt: undefined })
      void client.users.put({ userId: 'a', limits: { dailyUsd: null, perTradeUsd: '5.00' } })
      // @ts-expect-error userId is missing
      void client.credentials.retrieve({})
      // @ts-expect-error params are missing
      void client.credentials.retrieve()
      // @ts-expect-error no such param
      void client.system.ping({ loudly: true })
      // @ts-expect-error both forms of expiry at once
      void client.credentials.store({
        userId: 'a',
        apiKey: 'k',
        apiSecret: 's',
        expiresAt: 't',
        expiresInDays: 1,
      })
      // @ts-expect-error nothing makes a key exportable again
      void client.credentials.update({ userId: 'a', credentialId: 1, privateKeyPolicy: 'exportable' })
      void client.positions.close({ userId: 'a', positionId: 'p1', amountUsd: '5.00' })
      void client.positions.close({ userId: 'a', tradeId: 7 })
      // @ts-expect-error which position?
      void client.positions.close({ userId: 'a' })
      // @ts-expect-error both names of a position at once
      void client.positions.close({ userId: 'a', positionId: 'p1', tradeId: 't' })
      // @ts-expect-error the amount is missing
      void client.spend.reserve({ userId: 'a' })
      // @ts-expect-error a freeze has a reason
      void client.system.freeze()
      // @ts-expect-error no such state
      void client.reservations.list({ userId: 'a', state: 'open' })
      // @ts-expect-error no such method
      void client.credentials.steal
    })
  })

  test('call by wire name', () => {
    compiled((client) => {
      expectTypeOf(
        client.call('credentials.get', { userId: 'a', credentialId: 1 }),
      ).resolves.toEqualTypeOf<CredentialMetadata>()
      expectTypeOf(client.call('system.ping')).resolves.toEqualTypeOf<{ pong: true; at: string }>()
      expectTypeOf(client.call('spend.future', { any: 1 })).resolves.toBeUnknown()
      expectTypeOf(client.call('spend.future' as string)).resolves.toBeUnknown()
      // @ts-expect-error a known method takes its own params only
      void client.call('credentials.get', { userId: 'a' })
      // @ts-expect-error a known method's params may not be left out
      void client.call('credentials.get')
    })
  })

  test('paginate', () => {
    compiled((client) => {
      expectTypeOf(client.paginate('users.list')).toEqualTypeOf<AsyncGenerator<User, void, undefined>>()
      expectTypeOf(client.paginate('audit.query', { userId: 'a' })).toEqualTypeOf<
        AsyncGenerator<AuditEntry, void, undefined>
      >()
      // @ts-expect-error no list
      void client.paginate('users.get', { userId: 'a' })
    })
  })

  test('errors narrow by type', () => {
    compiled(() => {
      const error: unknown = null
      if (error instanceof PurserError) {
        expectTypeOf(error.type).toEqualTypeOf<ErrorType>()
        expectTypeOf(error.retryAfterMs).toEqualTypeOf<number | null>()
        if (error.type === 'SpendLimitExceeded') {
          expectTypeOf(error.data.availableUsd).toEqualTypeOf<string>()
          expectTypeOf(error).toEqualTypeOf<PurserErrorOf<'SpendLimitExceeded'>>()
        }
        switch (error.type) {
          case 'Frozen':
            expectTypeOf(error.data).toEqualTypeOf<ErrorData['Frozen']>()
            break
          case 'Conflict':
            expectTypeOf(error.data.field).toEqualTypeOf<string | null>()
            break
          default:
            // @ts-expect-error not every error has a field
            void error.data.field
        }
      }
      if (isPurserError(error, 'RateLimited')) expectTypeOf(error.data.windowMs).toEqualTypeOf<number>()
    })
  })
})
