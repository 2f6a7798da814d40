import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { apiSecret, hardhatKeys } from '../support/flow.ts'
import { type Entry, Story, sample } from './story.ts'

// Every act and every refusal that the contract names is one entry: no more, no fewer, none with a secret in it.

const [first, second] = hardhatKeys
const past = '2020-01-01T00:00:00Z'

test('each act, and each refusal, is exactly one entry', async () => {
  await using story = await Story.begin({ config: { credentials: { max_per_user: 5 } } })
  const { uid, gid, pid, comm } = {
    uid: process.getuid!(),
    gid: process.getgid!(),
    pid: process.pid,
    comm: readFileSync('/proc/self/comm', 'utf8').trim(),
  }
  await story.ok('session.hello', { client: 'the flow' })

  /** What `call` leaves behind must be this. */
  const expectEntry = async (call: () => Promise<unknown>, expected: Partial<Entry>) => {
    const told = await story.audited(call)
    expect(told).toHaveLength(1)
    expect(told[0]).toMatchObject({ client: 'the flow', peer: { uid, gid, pid, comm }, ...expected })
    expect(Object.keys(told[0]!).sort()).toEqual(
      [
        'action',
        'at',
        'client',
        'credentialId',
        'details',
        'hash',
        'outcome',
        'peer',
        'seq',
        'userId',
      ].sort(),
    )
  }
  const denied = (error: string, resource?: string) => ({
    outcome: 'denied' as const,
    details: resource === undefined ? { error } : { error, resource },
  })
  const alice = { userId: 'alice' }
  const one = { ...alice, credentialId: 1 }

  await expectEntry(() => story.ok('users.put', { ...alice, email: 'a@example.org' }), {
    action: 'user_put',
    userId: 'alice',
    credentialId: null,
    outcome: 'ok',
    details: {
      created: true,
      tier: 'free',
      limits: { perTradeUsd: '100.00', dailyUsd: '500.00', exposureUsd: '500.00' },
      settlement: 'operator',
    },
  })
  for (const [params, action] of [
    [{ tier: 'pro' }, 'limits_updated'],
    [{ tier: 'pro' }, 'user_put'],
    [{ limits: { dailyUsd: '5' } }, 'limits_updated'],
    [{ limits: { dailyUsd: '5.00' } }, 'user_put'],
    [{ limits: {} }, 'user_put'],
    [{ limits: { dailyUsd: null }, email: null }, 'limits_updated'],
    [{ settlement: 'cooperative' }, 'user_put'],
  ] as const)
    await expectEntry(() => story.ok('users.put', { ...alice, ...params }), { action, userId: 'alice' })
  await expectEntry(() => story.ok('users.put', { userId: 'bob', tier: 'pro' }), { action: 'limits_updated' })

  await expectEntry(
    () =>
      story.ok('credentials.store', {
        ...sample('alice', 1),
        privateKey: first.privateKey,
        passphrase: 'pp',
        name: 'n',
      }),
    {
      action: 'api_key_stored',
      ...one,
      outcome: 'ok',
      details: {
        name: 'n',
        address: first.address,
        isPrimary: true,
        privateKeyPolicy: 'exportable',
        expiresAt: null,
        userMade: false,
      },
    },
  )
  await expectEntry(() => story.ok('credentials.store', sample('carol', 2)), {
    action: 'api_key_stored',
    userId: 'carol',
    details: {
      name: null,
      address: null,
      isPrimary: true,
      privateKeyPolicy: 'exportable',
      expiresAt: null,
      userMade: true,
    },
  })
  await expectEntry(() => story.refused('Conflict', 'credentials.store', sample('alice', 1)), {
    action: 'api_key_stored',
    userId: 'alice',
    credentialId: null,
    ...denied('Conflict', 'apiKey'),
  })

  await expectEntry(() => story.ok('credentials.retrieve', one), {
    action: 'api_key_retrieved',
    ...one,
    outcome: 'ok',
    details: { privateKey: true },
  })
  await expectEntry(() => story.ok('credentials.retrieve', alice), {
    action: 'api_key_retrieved',
    ...one,
    outcome: 'ok',
    details: { privateKey: true },
  })
  await expectEntry(() => story.ok('credentials.retrieve', { userId: 'carol' }), {
    details: { privateKey: false },
  })
  await expectEntry(() => story.refused('NotFound', 'credentials.retrieve', { userId: 'nobody' }), {
    action: 'api_key_retrieved',
    userId: 'nobody',
    credentialId: null,
    ...denied('NotFound', 'user'),
  })
  await expectEntry(() => story.refused('NotFound', 'credentials.retrieve', { ...alice, credentialId: 77 }), {
    action: 'api_key_retrieved',
    userId: 'alice',
    credentialId: 77,
    ...denied('NotFound', 'credential'),
  })

  await expectEntry(
    () => story.ok('credentials.update', { ...one, name: null, dailySpendLimitUsd: '5', isPrimary: true }),
    {
      action: 'api_key_updated',
      ...one,
      outcome: 'ok',
      details: { name: null, dailySpendLimitUsd: '5.00', isPrimary: true },
    },
  )
  await expectEntry(() => story.ok('credentials.update', { ...one, privateKeyPolicy: 'sign-only' }), {
    action: 'api_key_updated',
    details: { privateKeyPolicy: 'sign-only' },
  })
  await expectEntry(() => story.ok('credentials.retrieve', one), { details: { privateKey: false } })
  await expectEntry(() => story.refused('NotFound', 'credentials.update', { ...one, userId: 'bob' }), {
    action: 'api_key_updated',
    userId: 'bob',
    credentialId: 1,
    ...denied('NotFound', 'credential'),
  })

  const secrets = { apiKey: 'key-9', apiSecret: apiSecret(9) }
  await expectEntry(
    () => story.ok('credentials.replace', { ...one, ...secrets, privateKey: second.privateKey }),
    {
      action: 'api_key_replaced',
      ...one,
      outcome: 'ok',
      details: { address: second.address, passphrase: false, privateKey: true },
    },
  )
  await story.store('alice', 3)
  await expectEntry(
    () => story.refused('Conflict', 'credentials.replace', { ...one, ...secrets, apiKey: 'key-3' }),
    {
      action: 'api_key_replaced',
      ...one,
      ...denied('Conflict', 'apiKey'),
    },
  )
  await expectEntry(
    () => story.refused('NotFound', 'credentials.replace', { ...one, ...secrets, credentialId: 77 }),
    {
      action: 'api_key_replaced',
      ...denied('NotFound', 'credential'),
    },
  )

  await expectEntry(() => story.ok('credentials.rotate', one), {
    action: 'api_key_rotated',
    ...one,
    outcome: 'ok',
    details: {},
  })
  await expectEntry(() => story.refused('NotFound', 'credentials.rotate', { userId: 'nobody' }), {
    action: 'api_key_rotated',
    userId: 'nobody',
    ...denied('NotFound', 'user'),
  })

  await story.ok('credentials.update', { ...one, expiresAt: past })
  for (const method of ['credentials.retrieve', 'credentials.rotate'] as const)
    await expectEntry(() => story.refused('CredentialExpired', method, one), {
      ...one,
      ...denied('CredentialExpired'),
    })
  await expectEntry(() => story.refused('CredentialExpired', 'credentials.retrieve', alice), {
    ...one,
    ...denied('CredentialExpired'),
  })

  await expectEntry(() => story.ok('credentials.revoke', { ...one, reason: 'because' }), {
    action: 'api_key_revoked',
    ...one,
    outcome: 'ok',
    details: { reason: 'because', again: false },
  })
  await expectEntry(() => story.ok('credentials.revoke', one), { details: { reason: null, again: true } })
  await expectEntry(() => story.refused('NotFound', 'credentials.revoke', { ...one, credentialId: 77 }), {
    action: 'api_key_revoked',
    ...denied('NotFound', 'credential'),
  })
  for (const [method, more] of [
    ['credentials.retrieve', {}],
    ['credentials.rotate', {}],
    ['credentials.update', { isPrimary: true }],
    ['credentials.update', { isPrimary: true, privateKeyPolicy: 'sign-only' }],
  ] as const)
    await expectEntry(() => story.refused('CredentialRevoked', method, { ...one, ...more }), {
      ...one,
      ...denied('CredentialRevoked'),
    })

  await expectEntry(() => story.ok('users.resetDecryptions', alice), {
    action: 'decryptions_reset',
    userId: 'alice',
    outcome: 'ok',
  })
  await expectEntry(() => story.refused('NotFound', 'users.resetDecryptions', { userId: 'nobody' }), {
    action: 'decryptions_reset',
    ...denied('NotFound', 'user'),
  })

  const path = join(story.purser.directory, 'copy.db')
  let made: { bytes: number; sha256: string } | undefined
  await expectEntry(
    async () => {
      made = await story.ok('backup.create', { path })
    },
    { action: 'backup_created', userId: null, credentialId: null, outcome: 'ok' },
  )
  expect((await story.entries()).at(-1)!.details).toEqual({ path, bytes: made!.bytes, sha256: made!.sha256 })
  await expectEntry(() => story.refused('Conflict', 'backup.create', { path }), {
    action: 'backup_created',
    ...denied('Conflict', 'path'),
  })
  const guest = story.connect()
  await story.ok('session.hello', { client: 'the flow' }, guest)
  await expectEntry(() => story.refused('Forbidden', 'session.hello', { token: 'prs_x' }, guest), {
    action: 'access_denied',
    ...denied('Forbidden'),
  })
  await story.chainHolds()
})

test('the crowd that loses a race is told of without the ids that came to nothing', async () => {
  await using story = await Story.begin({ config: { credentials: { max_per_user: 1 } } })
  const told = await story.audited(() =>
    Promise.all(
      Array.from({ length: 6 }, (_, fill) => story.main.call('credentials.store', sample('alice', fill))),
    ),
  )
  expect(told).toHaveLength(6)
  expect(told.filter(({ outcome }) => outcome === 'ok')).toHaveLength(1)
  for (const { outcome, credentialId } of told) expect(credentialId === null).toBe(outcome === 'denied')
})

test('reads and protocol errors leave none', async () => {
  await using story = await Story.begin()
  await story.store('alice', 1)
  const one = { userId: 'alice', credentialId: 1 }
  const told = await story.audited(async () => {
    for (const [method, params] of [
      ['session.hello', { client: 'x' }],
      ['system.ping', {}],
      ['system.health', {}],
      ['system.status', {}],
      ['rpc.discover', {}],
      ['users.get', { userId: 'alice' }],
      ['users.list', {}],
      ['credentials.get', one],
      ['credentials.list', {}],
      ['credentials.expiring', { withinDays: 1 }],
      ['audit.query', {}],
      ['audit.verify', {}],
      ['audit.failures', {}],
    ] as const)
      await story.ok(method, params)
    for (const [method, params] of [
      ['users.get', { userId: 'nobody' }],
      ['credentials.get', { ...one, credentialId: 9 }],
      ['credentials.list', { userId: 'nobody' }],
      ['audit.verify', { fromSeq: 999 }],
    ] as const)
      await story.refused('NotFound', method, params)
    await story.refused('InvalidParams', 'credentials.retrieve', {})
    await story.refused('InvalidParams', 'credentials.store', { ...sample('alice', 2), privateKey: '0' })
    await story.refused('InvalidParams', 'backup.create', { path: 'x' })
    await story.refused('MethodNotFound', 'sign.order', {})
    story.main.send('nonsense\n[]\n5\n')
    for (let n = 0; n < 3; n++) await story.main.answer()
  })
  expect(told).toEqual([])
})

test('a start and a stop are told of, and who is not a caller has no peer', async () => {
  await using story = await Story.begin()
  const { version } = await story.ok('system.status')
  await story.restart()
  await story.purser.kill('SIGKILL')
  await story.purser.restart()
  const told = await story.entries()
  expect(told[0]).toMatchObject({
    seq: 1,
    action: 'daemon_started',
    details: { version, storeCreated: true },
  })
  expect(told[1]).toMatchObject({ action: 'daemon_stopped', details: { reason: 'SIGTERM' } })
  expect(told[2]).toMatchObject({ action: 'daemon_started', details: { version, storeCreated: false } })
  // Killed: nobody could say so, the next start stands alone.
  expect(told[3]).toMatchObject({ action: 'daemon_started' })
  for (const entry of told) {
    expect(entry).toMatchObject({ userId: null, credentialId: null, outcome: 'ok', peer: null, client: null })
  }
  await story.chainHolds()
})

test('no secret is in an entry, in a log line or in plain in any file', async () => {
  const marks = ['MARK-api-key-1', 'MARK-api-key-2', 'MARK-passphrase-1', 'MARK-passphrase-2']
  const bytes = [
    Buffer.from('MARK-secret-of-32-bytes-number-1'),
    Buffer.from('MARK-secret-of-32-bytes-number-2'),
  ]
  await using story = await Story.begin({ args: ['--log-level', 'trace'] })
  const one = { userId: 'alice', credentialId: 1 }
  const secrets = (index: number, privateKey: string) => ({
    apiKey: marks[index],
    apiSecret: bytes[index]!.toString('base64url'),
    passphrase: marks[index + 2],
    privateKey,
  })
  await story.ok('credentials.store', { userId: 'alice', ...secrets(0, first.privateKey) })
  await story.refused('Conflict', 'credentials.store', { userId: 'alice', ...secrets(0, first.privateKey) })
  await story.ok('credentials.retrieve', one)
  await story.ok('credentials.replace', { ...one, ...secrets(1, second.privateKey) })
  await story.ok('credentials.retrieve', one)
  await story.ok('credentials.rotate', one)
  await story.ok('credentials.update', { ...one, privateKeyPolicy: 'sign-only' })
  await story.refused('InvalidParams', 'credentials.update', { ...one, ...secrets(1, second.privateKey) })
  await story.ok('backup.create', { path: join(story.purser.directory, 'copy.db') })
  const entries = JSON.stringify(await story.entries())

  const hidden = [
    ...marks.map((mark) => Buffer.from(mark)),
    ...bytes.flatMap((secret) => [secret, Buffer.from(secret.toString('base64url'))]),
    ...[first, second].flatMap(({ privateKey }) => [
      Buffer.from(privateKey.slice(2), 'hex'),
      Buffer.from(privateKey.slice(2)),
    ]),
    Buffer.from(story.purser.masterKey!, 'base64'),
  ]
  const files = ['data/purser.db', 'data/purser.db-wal', 'copy.db']
  const texts = new Map<string, Buffer>([
    ['entries', Buffer.from(entries)],
    ['log', Buffer.from(story.purser.logs().join('\n'))],
    ...files.map((name) => [name, readFileSync(join(story.purser.directory, name))] as const),
  ])
  expect(readdirSync(story.purser.dataDirectory).sort()).toEqual(['purser.db', 'purser.db-wal'])
  for (const [where, text] of texts) {
    expect(text.length).toBeGreaterThan(0)
    for (const secret of hidden) expect(text.includes(secret), where).toBe(false)
  }
})
