import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type {
  AuditEntry,
  Credential,
  CredentialMetadata,
  Hello,
  Identity,
  PurserClient,
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
