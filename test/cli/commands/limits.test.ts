import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { describeLimits } from '../../../src/cli/commands/limits.ts'
import type { User } from '../../../src/client/index.ts'
import { helloResult, Peer } from '../../client/peer.ts'
import { type Ledger, startLedger } from '../ledger.ts'
import { runCli } from '../run-cli.ts'

const user: User = {
  userId: 'alice',
  tier: 'pro',
  email: null,
  limits: { perTradeUsd: '2000.00', dailyUsd: '10000.00', exposureUsd: '10000.00' },
  settlement: 'operator',
  frozen: null,
  createdAt: '2026-11-24T08:00:00.000Z',
}

test('describeLimits says what was otherwise before', () => {
  const before = { ...user, tier: 'free', limits: { ...user.limits, dailyUsd: '500.00' } }
  expect(describeLimits(user, before)).toBe(
    [
      'user       alice',
      'tier       pro (was free)',
      'per trade  2000.00',
      'day        10000.00 (was 500.00)',
      'exposure   10000.00',
      'frozen     -',
      '',
    ].join('\n'),
  )
})

test.each([[[]], [['--user', 'alice']]])(
  'freeze %j that cannot be stored says that it is in force all the same',
  async (which) => {
    await using peer = await Peer.start(({ method }, reply) => {
      if (method === 'session.hello') reply.result(helloResult)
      else
        reply.error({
          code: 5001,
          message: 'the store cannot be written',
          data: { type: 'StorageUnavailable', retryable: true, hint: 'free disk space' },
        })
    })
    const args = ['freeze', '--reason', 'x', '--socket', peer.socketPath, ...which]
    const { code, stdout, stderr } = await runCli(args)
    expect({ code, stdout }).toEqual({ code: 75, stdout: '' })
    expect(stderr).toMatch(
      /^purser: the freeze is in force, but not stored: .*\npurser: the store cannot be written\nhint: free disk space\n$/,
    )
  },
)

test('a freeze is sent again where the connection breaks before its answer', async () => {
  await using peer = await Peer.start(({ method }, reply, connection) => {
    if (method === 'session.hello') reply.result(helloResult)
    else if (connection === 1) reply.socket.destroy()
    else reply.result({ frozen: { reason: 'x', since: '2026-11-24T08:00:00.000Z' } })
  })
  expect(await runCli(['freeze', '--reason', 'x', '--socket', peer.socketPath])).toMatchObject({
    code: 0,
    stdout: 'everything is frozen since 2026-11-24T08:00:00Z: x\n',
  })
})

describe('purser limits, freeze, unfreeze', { timeout: 30_000 }, () => {
  let ledger: Ledger
  beforeAll(async () => {
    ledger = await startLedger()
  })
  afterAll(() => ledger.purser.stop())

  test('set changes what is given, none goes back to the tier, show shows it', async () => {
    const set = await ledger.run(['limits', 'set', '--user', 'bob', '--tier', 'basic', '--daily', '0'])
    expect(set).toMatchObject({ code: 0, stderr: '' })
    expect(set.stdout).toMatch(/^tier +basic \(was free\)$/m)
    expect(set.stdout).toMatch(/^day +0\.00 \(was 500\.00\)$/m)
    const none = await ledger.json(['limits', 'set', '--user', 'bob', '--daily', 'none', '--exposure', '7.5'])
    expect(none).toMatchObject({
      tier: 'basic',
      limits: { perTradeUsd: '500.00', dailyUsd: '2500.00', exposureUsd: '7.50' },
    })
    expect(await ledger.json(['limits', 'show', '--user', 'bob'])).toEqual(none)
  })

  test('set makes no user: a mistyped name is exit 2', async () => {
    const result = await ledger.run(['limits', 'set', '--user', 'boob', '--daily', '5'])
    expect(result).toMatchObject({ code: 2, stdout: '' })
    expect(await ledger.run(['users', 'get', 'boob'])).toMatchObject({ code: 2 })
  })

  test.each([
    [['limits', 'set', '--user', 'bob'], 'nothing to change'],
    [['limits', 'set', '--user', 'bob', '--daily', 'much'], 'limits.dailyUsd: '],
    [['limits', 'set', '--user', 'bob', '--tier', 'gold'], 'tier: '],
    [['limits', 'set', '--daily', '5'], "required option '--user <USER>'"],
    [['freeze'], "required option '--reason <TEXT>'"],
    // The user is an option: taken for an argument it must not end up as a freeze of everything.
    [['freeze', 'bob', '--reason', 'x'], "too many arguments for 'freeze'"],
    [['unfreeze', 'bob'], "too many arguments for 'unfreeze'"],
  ])('%j is exit 64', async (args, text) => {
    const result = await ledger.run(args)
    expect(result).toMatchObject({ code: 64, stdout: '' })
    expect(result.stderr).toContain(text)
    expect(await ledger.client.system.health()).toMatchObject({ status: 'ok' })
  })

  test('a frozen user is refused with the reason, exit 75, until unfrozen', async () => {
    const frozen = await ledger.run(['freeze', '--user', 'alice', '--reason', 'odd orders'])
    expect(frozen.stdout).toMatch(/^alice is frozen since 20.*Z: odd orders$/m)
    const refused = await ledger.run(['spend', 'check', '5', '--user', 'alice'])
    expect(refused).toMatchObject({ code: 75, stdout: '' })
    expect(refused.stderr).toContain('reason: odd orders')
    expect(refused.stderr).toContain('hint: an operator unfreezes with `purser unfreeze`')
    expect((await ledger.run(['spend', 'check', '5', '--user', 'bob'])).code).toBe(0)
    const lifted = await ledger.run(['unfreeze', '--user', 'alice'])
    expect(lifted).toMatchObject({ code: 0, stdout: 'the freeze of alice is lifted\n', stderr: '' })
    expect((await ledger.run(['spend', 'check', '5', '--user', 'alice'])).code).toBe(0)
  })

  test('everything: binds for all, and lifting one user says that it still does', async () => {
    expect(await ledger.json(['freeze', '--reason', 'drill'])).toMatchObject({ frozen: { reason: 'drill' } })
    expect(await ledger.run(['health'])).toMatchObject({ code: 3 })
    const one = await ledger.run(['unfreeze', '--user', 'alice'])
    expect(one).toMatchObject({ code: 0 })
    expect(one.stderr).toContain('purser: everything is still frozen: drill')
    const all = await ledger.run(['unfreeze'])
    expect(all).toMatchObject({ code: 0, stderr: '' })
    expect((await ledger.run(['spend', 'check', '5', '--user', 'alice'])).code).toBe(0)
  })

  test('a freeze survives a restart, and its reason cannot draw on the terminal', async () => {
    await ledger.run(['freeze', '--user', 'bob', '--reason', 'x\x1b[31m\u202e'])
    await ledger.purser.restart()
    const { stdout } = await ledger.run(['limits', 'show', '--user', 'bob'])
    expect(stdout).toMatch(/^frozen +since 20.*Z: x\\x1b\[31m\\u\{202e\}$/m)
  })
})
