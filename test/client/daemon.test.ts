import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type {
  AuditEntry,
  Credential,
  CredentialMetadata,
  CredentialUsage,
  DailyUsage,
  ExposureUsage,
  Hello,
  Identity,
  Position,
  PurserClient,
  Remaining,
  Reservation,
  Result,
  SpendStatus,
  User,
} from '../../src/client/index.ts'
import { isPurserError } from '../../src/client/index.ts'
import { resendTable } from '../../src/client/resend.ts'
import { startPurser, type TestPurser } from '../../src/testing/index.ts'
import { rejection, until } from './peer.ts'

// Against a real daemon: `npm run build` comes first.
let purser: TestPurser
let client: PurserClient

beforeAll(async () => {
  purser = await startPurser({ fastKdf: true })
  client = await purser.client({ client: 'client-test/1' })
})
afterAll(async () => {
  await purser?.stop()
})

const apiSecret = Buffer.from('any secret').toString('base64url')

/** The keys of a type, each once: the compiler refuses a list with one too many or too few. */
function keysOf<T>(keys: Record<keyof T, true>): string[] {
  return Object.keys(keys).sort()
}

describe('the table of methods', () => {
  test('is what the daemon serves', async () => {
    const { methods } = await client.rpc.discover()
    const ours = Object.entries(resendTable).flatMap(([group, names]) =>
      Object.keys(names).map((name) => `${group}.${name}`),
    )
    expect(ours.sort()).toEqual(methods.map((method) => method.name).sort())
  })

  test('has the members the daemon answers', async () => {
    const hello = await client.session.hello()
    expect(Object.keys(hello).sort()).toEqual(
      keysOf<Hello>({ server: true, version: true, protocol: true, identity: true, sealed: true }),
    )
    expect(Object.keys(hello.identity).sort()).toEqual(
      keysOf<Identity>({
        uid: true,
        gid: true,
        pid: true,
        client: true,
        role: true,
        users: true,
        scopes: true,
      }),
    )
    const user = await client.users.put({ userId: 'shapes', email: 'a@b.c' })
    expect(Object.keys(user).sort()).toEqual(
      keysOf<User>({
        userId: true,
        tier: true,
        email: true,
        limits: true,
        settlement: true,
        frozen: true,
        createdAt: true,
      }),
    )
    const { credentialId } = await client.credentials.store({ userId: 'shapes', apiKey: 'k', apiSecret })
    const credential = await client.credentials.retrieve({ userId: 'shapes' })
    expect(Object.keys(credential).sort()).toEqual(
      keysOf<Credential>({
        credentialId: true,
        name: true,
        apiKey: true,
        apiSecret: true,
        passphrase: true,
        privateKey: true,
        address: true,
        expiresAt: true,
      }),
    )
    const metadata = await client.credentials.get({ userId: 'shapes', credentialId })
    expect(Object.keys(metadata).sort()).toEqual(
      keysOf<CredentialMetadata>({
        credentialId: true,
        userId: true,
        name: true,
        status: true,
        isPrimary: true,
        address: true,
        fingerprint: true,
        hasPrivateKey: true,
        privateKeyPolicy: true,
        dailySpendLimitUsd: true,
        createdAt: true,
        updatedAt: true,
        lastUsedAt: true,
        expiresAt: true,
        revokedAt: true,
        revokeReason: true,
        encryptedAt: true,
        apiSecretRetrievedAt: true,
        privateKeyRetrievedAt: true,
      }),
    )
    const { entries } = await client.audit.query({ userId: 'shapes', action: 'api_key_retrieved' })
    expect(entries[0]?.client).toBe('client-test/1')
    expect(Object.keys(entries[0] ?? {}).sort()).toEqual(
      keysOf<AuditEntry>({
        seq: true,
        at: true,
        action: true,
        userId: true,
        credentialId: true,
        outcome: true,
        details: true,
        peer: true,
        client: true,
        hash: true,
      }),
    )
    expect(await client.audit.verify()).toMatchObject({ ok: true, firstBadSeq: null })
    expect(await client.system.health()).toMatchObject({ status: 'ok' })
  })
})

describe('the ledger', () => {
  const userId = 'ledger'
  beforeAll(async () => {
    await client.users.put({ userId, email: 'l@b.c', tier: 'pro' })
    await client.credentials.store({ userId, apiKey: 'k', apiSecret, dailySpendLimitUsd: '1000' })
  })

  test('has the members the daemon answers', async () => {
    const members = (answer: object | undefined): string[] => Object.keys(answer ?? {}).sort()
    const remaining = keysOf<Remaining>({
      perTradeUsd: true,
      credentialDailyUsd: true,
      userDailyUsd: true,
      exposureUsd: true,
    })
    const check = await client.spend.check({ userId, amountUsd: '10' })
    expect(members(check)).toEqual(keysOf<Result<'spend.check'>>({ allowed: true, remaining: true }))
    expect(members(check.remaining)).toEqual(remaining)

    const held = await client.spend.reserve({ userId, amountUsd: '10.000001', ttlSeconds: 600 })
    expect(members(held)).toEqual(
      keysOf<Result<'spend.reserve'>>({
        reservationId: true,
        state: true,
        amountUsd: true,
        expiresAt: true,
        remaining: true,
      }),
    )
    const { reservationId } = held
    const captured = await client.spend.capture({ reservationId, amountUsd: 4, tradeId: 't', final: false })
    expect(captured).toMatchObject({ amountUsd: '4.00', heldUsd: '6.000001', releasedUsd: '0.00' })
    expect(members(captured)).toEqual(
      keysOf<Result<'spend.capture'>>({
        positionId: true,
        amountUsd: true,
        releasedUsd: true,
        heldUsd: true,
        remaining: true,
      }),
    )
    const { reservations } = await client.reservations.list({ userId })
    expect(members(reservations[0])).toEqual(
      keysOf<Reservation>({
        reservationId: true,
        userId: true,
        credentialId: true,
        amountUsd: true,
        capturedUsd: true,
        state: true,
        signed: true,
        digest: true,
        createdAt: true,
        expiresAt: true,
        postHeadersAt: true,
      }),
    )
    const recorded = await client.spend.record({ userId, amountUsd: '2', tradeId: 7 })
    expect(members(recorded)).toEqual(
      keysOf<Result<'spend.record'>>({ positionId: true, overLimit: true, remaining: true }),
    )
    const { positions } = await client.positions.list({ userId, state: 'open' })
    expect(positions.map((position) => position.tradeId)).toEqual(['t', '7'])
    expect(members(positions[0])).toEqual(
      keysOf<Position>({
        positionId: true,
        userId: true,
        credentialId: true,
        tradeId: true,
        amountUsd: true,
        openUsd: true,
        state: true,
        openedAt: true,
        closedAt: true,
      }),
    )
    const closed = await client.positions.close({ userId, tradeId: 7 })
    expect(closed).toEqual({ closedUsd: '2.00', openUsd: '0.00' })
    expect(members(closed)).toEqual(keysOf<Result<'positions.close'>>({ closedUsd: true, openUsd: true }))

    const status = await client.spend.status({ userId })
    expect(members(status)).toEqual(
      keysOf<SpendStatus>({
        userId: true,
        tier: true,
        frozen: true,
        perTrade: true,
        credentialDaily: true,
        userDaily: true,
        exposure: true,
        worstCaseUsd: true,
        unbounded: true,
      }),
    )
    const daily = keysOf<DailyUsage>({
      limitUsd: true,
      spentUsd: true,
      reservedUsd: true,
      remainingUsd: true,
      percent: true,
      resetsAt: true,
    })
    expect(members(status.userDaily)).toEqual(daily)
    expect(members(status.credentialDaily ?? {})).toEqual(daily)
    expect(members(status.exposure)).toEqual(
      keysOf<ExposureUsage>({
        limitUsd: true,
        openUsd: true,
        reservedUsd: true,
        remainingUsd: true,
        percent: true,
      }),
    )
    const { usage } = await client.spend.usage()
    expect(members(usage[0])).toEqual(
      keysOf<CredentialUsage>({
        userId: true,
        email: true,
        credentialId: true,
        name: true,
        spentUsd: true,
        limitUsd: true,
        percent: true,
      }),
    )
    expect(await client.spend.void({ reservationId })).toEqual({ releasedUsd: '6.000001' })
  })

  test('a refusal carries its numbers', async () => {
    const error = await rejection(client.spend.reserve({ userId, amountUsd: '2000.01' }))
    expect(isPurserError(error, 'SpendLimitExceeded') && error.data).toMatchObject({
      level: 'per_trade',
      limitUsd: '2000.00',
      usedUsd: '0.00',
      requestedUsd: '2000.01',
      availableUsd: '2000.00',
      resetsAt: null,
    })
  })

  test('freezes, of a user and of everything', async () => {
    expect(await client.users.freeze({ userId, reason: 'odd orders' })).toMatchObject({
      frozen: { reason: 'odd orders' },
    })
    const refused = await rejection(client.spend.check({ userId, amountUsd: 1 }))
    expect(isPurserError(refused, 'Frozen') && refused.data.reason).toBe('odd orders')
    expect(await client.users.unfreeze({ userId })).toMatchObject({ frozen: null })
    expect(await client.system.freeze({ reason: 'drill' })).toMatchObject({ frozen: { reason: 'drill' } })
    expect(await client.system.unfreeze()).toEqual({ frozen: null })
  })

  test('metrics are Prometheus text', async () => {
    const { contentType, text } = await client.system.metrics()
    expect(contentType).toMatch(/^text\/plain/)
    expect(text).toMatch(/^purser_request_seconds_count\{/m)
  })
})

describe('a real daemon', () => {
  test('answers 10,000 pipelined calls', async () => {
    await client.users.put({ userId: 'many' })
    const users = await Promise.all(
      Array.from({ length: 10_000 }, (_, number) =>
        number % 100 === 0 ? client.users.get({ userId: 'many' }) : client.system.ping(),
      ),
    )
    expect(users.length).toBe(10_000)
  })

  test('answers typed errors', async () => {
    const [unknownMethod, badParams, missing] = await Promise.all([
      rejection(client.call('no.such.method')),
      rejection(client.users.put({ userId: 'not a user id' })),
      rejection(client.credentials.retrieve({ userId: 'nobody' })),
    ])
    expect(isPurserError(unknownMethod, 'MethodNotFound')).toBe(true)
    expect(isPurserError(badParams, 'InvalidParams') && badParams.data.issues[0]?.path).toBe('userId')
    expect(isPurserError(missing, 'NotFound') && missing.data.resource).toBe('user')
  })

  test('refuses a token that it never gave out', async () => {
    expect(isPurserError(await rejection(purser.client({ token: 'prs_wrong' })), 'Forbidden')).toBe(true)
  })

  test('is walked page by page', async () => {
    const userIds = Array.from({ length: 25 }, (_, number) => `page-${String(number).padStart(2, '0')}`)
    await Promise.all(userIds.map((userId) => client.users.put({ userId })))
    const seen: string[] = []
    for await (const { userId } of client.paginate('users.list', { limit: 7 })) seen.push(userId)
    expect(seen.filter((userId) => userId.startsWith('page-'))).toEqual(userIds)
    const entries: number[] = []
    for await (const { seq } of client.paginate('audit.query', { limit: 10, action: 'user_put' }))
      entries.push(seq)
    expect(new Set(entries).size).toBe(entries.length)
    expect(entries.length).toBeGreaterThanOrEqual(25)
  })

  test('may be restarted under calls: what is sent again is answered, what is not is told', async () => {
    const shared = await purser.client({ client: 'restart/1' })
    let stop = false
    const outcomes: string[] = []
    const bot = (async () => {
      while (!stop) {
        const outcome = await shared.system.ping().then(
          () => 'ok',
          (error: unknown) => (isPurserError(error, 'Overloaded') ? 'draining' : String(error)),
        )
        outcomes.push(outcome)
      }
    })()
    await until(() => outcomes.length > 50)
    await purser.restart()
    const atRestart = outcomes.length
    await purser.kill('SIGKILL')
    await purser.restart()
    await until(() => outcomes.length > atRestart + 50)
    stop = true
    await bot
    expect(new Set(outcomes.filter((outcome) => outcome !== 'draining'))).toEqual(new Set(['ok']))
    expect(shared.hello?.identity.pid).toBe(process.pid)
  })
})
