import { spawn } from 'node:child_process'
import { chmodSync, statSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isRoot, OtherCaller, relayOf } from '../support/other-caller.ts'
import { Story, sample } from './story.ts'

// A caller of another uid, whom nobody has granted anything: a real process of a real second uid.

const otherUid = 54_321
const otherGid = 54_322
if (!isRoot) console.warn('skipped: only root can start a process of a second uid')

describe.skipIf(!isRoot)('a caller of another uid without an entry', () => {
  let story: Story
  let other: OtherCaller

  beforeAll(async () => {
    story = await Story.begin({ config: { socket: { mode: '0666' } } })
    // The test's directory is 0700; what it holds beside the socket is closed by modes of its own.
    chmodSync(story.purser.directory, 0o711)
    await story.store('alice', 1)
    other = new OtherCaller(story.purser.socketPath, { uid: otherUid, gid: otherGid })
  })
  afterAll(async () => {
    other?.close()
    await story?.[Symbol.asyncDispose]()
  })

  test('is told who the kernel says it is, and that it may do nothing', async () => {
    const { result } = await other.call('session.hello', { client: 'somebody' })
    expect(result.identity).toEqual({
      uid: otherUid,
      gid: otherGid,
      pid: other.process.pid,
      client: null,
      role: 'none',
      users: [],
      scopes: [],
    })
    expect((await other.call('system.ping')).result).toMatchObject({ pong: true })
    expect((await other.call('system.health')).result).toMatchObject({ status: 'ok' })
  })

  const forbidden: [method: string, scope: string | null, params: unknown][] = [
    ['rpc.discover', null, {}],
    ['system.status', 'admin', {}],
    ['users.put', 'admin', { userId: 'mallory' }],
    ['users.get', 'admin', { userId: 'alice' }],
    ['users.list', 'admin', {}],
    ['users.resetDecryptions', 'admin', { userId: 'alice' }],
    ['credentials.store', 'credentials:write', sample('mallory', 1)],
    ['credentials.retrieve', 'credentials:read', { userId: 'alice' }],
    ['credentials.get', null, { userId: 'alice', credentialId: 1 }],
    ['credentials.list', null, {}],
    ['credentials.expiring', null, { withinDays: 1 }],
    ['credentials.update', 'credentials:write', { userId: 'alice', credentialId: 1, name: 'mine' }],
    ['credentials.revoke', 'credentials:write', { userId: 'alice', credentialId: 1 }],
    ['credentials.replace', 'credentials:write', { ...sample('alice', 2), credentialId: 1 }],
    ['credentials.rotate', 'credentials:write', { userId: 'alice' }],
    ['system.metrics', 'admin', {}],
    ['system.freeze', 'freeze', { reason: 'mine' }],
    ['system.unfreeze', 'admin', {}],
    ['system.seal', 'admin', {}],
    ['system.unseal', 'admin', {}],
    ['users.freeze', 'freeze', { userId: 'alice', reason: 'mine' }],
    ['users.unfreeze', 'admin', { userId: 'alice' }],
    ['spend.check', 'spend', { userId: 'alice', amountUsd: '1' }],
    ['spend.reserve', 'spend', { userId: 'alice', amountUsd: '1' }],
    ['spend.capture', 'spend', { reservationId: 'r1' }],
    ['spend.void', 'spend', { reservationId: 'r1' }],
    ['spend.record', 'spend', { userId: 'alice', amountUsd: '1' }],
    ['spend.status', null, { userId: 'alice' }],
    ['spend.usage', 'admin', {}],
    ['reservations.list', 'spend', { userId: 'alice' }],
    ['positions.list', 'spend', { userId: 'alice' }],
    ['positions.close', 'spend', { userId: 'alice', positionId: 'p1' }],
    ['clients.add', 'admin', { name: 'me', uid: otherUid, users: '*', scopes: ['admin'] }],
    ['clients.update', 'admin', { clientId: 1, scopes: ['admin'] }],
    ['clients.list', 'admin', {}],
    ['clients.remove', 'admin', { clientId: 1 }],
    ['audit.query', 'audit:read', {}],
    ['audit.verify', 'audit:read', {}],
    ['audit.failures', 'audit:read', {}],
    ['backup.create', 'admin', {}],
    ['master.rotate', 'admin', {}],
    ['master.reseal', 'admin', {}],
    ['master.status', 'admin', {}],
  ]

  test.each(forbidden)('%s is Forbidden, and an entry says so', async (method, scope, params) => {
    const told = await story.audited(async () => {
      const { error } = await other.call(method, params)
      expect(error).toMatchObject({ code: 1001, data: { type: 'Forbidden', retryable: false, scope } })
    })
    expect(told).toHaveLength(1)
    expect(told[0]).toMatchObject({
      action: 'access_denied',
      outcome: 'denied',
      details: { error: 'Forbidden', method },
      peer: { uid: otherUid, gid: otherGid, pid: other.process.pid },
      client: 'somebody',
    })
  })

  test('every method there is was tried', async () => {
    const { methods } = await story.ok('rpc.discover')
    const open = ['session.hello', 'system.ping', 'system.health']
    const tried = new Set([...open, ...forbidden.map(([method]) => method)])
    expect(
      methods.map(({ name }: { name: string }) => name).filter((name: string) => !tried.has(name)),
    ).toEqual([])
  })

  test('Forbidden tells nothing: not whether params fit, nor whether anything exists', async () => {
    const answers = new Set<string>()
    for (const params of [
      { userId: 'alice' },
      { userId: 'nobody' },
      { userId: 'alice', credentialId: 99 },
      { wrong: 1 },
      [],
      null,
    ]) {
      const { error } = await other.call('credentials.retrieve', params)
      answers.add(JSON.stringify(error))
    }
    expect(answers.size).toBe(1)
    // What is no method at all is MethodNotFound for everybody.
    expect((await other.call('no.such')).error).toMatchObject({ code: -32601 })
  })

  test('nothing of it was done', async () => {
    expect(await story.ok('users.list')).toMatchObject({ users: [{ userId: 'alice' }] })
    expect(await story.ok('credentials.retrieve', { userId: 'alice' })).toMatchObject({
      apiKey: 'key-1',
      name: null,
    })
    await story.chainHolds()
  })

  test('a flood is written one by one up to a bound, and counted beyond it', async () => {
    const before = await story.headSeq()
    const count = 200
    const answers = await Promise.all(
      Array.from({ length: count }, () => other.call('credentials.retrieve', { userId: 'alice' })),
    )
    for (const { error } of answers) expect(error!.data.type).toBe('Forbidden')
    const singly = await story.entries(before)
    // 60 a minute, less what the tests before have used up; twice that where the minute turned meanwhile.
    expect(singly.length).toBeLessThanOrEqual(120)
    await story.restart()
    const told = (await story.entries(before)).filter(({ action }) => action === 'access_denied')
    const counted = told.flatMap(({ details }) => (details['count'] === undefined ? [] : [details['count']]))
    expect(counted).toHaveLength(1)
    expect(told.length - 1 + Number(counted[0])).toBe(count)
    await story.chainHolds()
  })
})

test.skipIf(!isRoot)('a socket of mode 0600 does not let another uid in at all', async () => {
  await using story = await Story.begin()
  chmodSync(story.purser.directory, 0o711)
  expect(statSync(story.purser.socketPath).mode & 0o777).toBe(0o600)
  const other = spawn(
    process.execPath,
    ['-e', relayOf({ uid: otherUid, gid: otherGid }), story.purser.socketPath],
    {
      env: {},
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  let text = ''
  other.stderr.setEncoding('utf8').on('data', (more) => {
    text += more
  })
  expect(await new Promise((resolve) => other.on('close', resolve))).not.toBe(0)
  expect(text).toContain('EACCES')
})
