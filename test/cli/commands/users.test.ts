import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { putParams } from '../../../src/cli/commands/users.ts'
import { type CliDaemon, startCliDaemon } from '../daemon.ts'

test('putParams sends what was given, and null for none', () => {
  expect(putParams('a', {})).toEqual({ userId: 'a' })
  expect(
    putParams('a', {
      tier: 'pro',
      email: 'none',
      perTrade: '5',
      daily: 'none',
      settlement: 'cooperative',
      maxSignaturesPerMinute: 'none',
    }),
  ).toEqual({
    userId: 'a',
    tier: 'pro',
    email: null,
    limits: { perTradeUsd: '5', dailyUsd: null },
    settlement: 'cooperative',
    maxSignaturesPerMinute: null,
  })
  expect(() => putParams('a', { maxSignaturesPerMinute: '-1' })).toThrow('--max-signatures-per-minute')
})

describe('purser users', () => {
  let cli: CliDaemon
  beforeAll(async () => {
    cli = await startCliDaemon()
  })
  afterAll(() => cli.purser.stop())

  test('put, get, list, and limits that go back to the tier', async () => {
    const put = await cli.json([
      'users',
      'put',
      'alice',
      '--tier',
      'pro',
      '--daily',
      '500',
      '--email',
      'a@b.c',
    ])
    expect(put).toMatchObject({
      userId: 'alice',
      tier: 'pro',
      email: 'a@b.c',
      limits: { dailyUsd: '500.00' },
    })
    expect(await cli.json(['users', 'get', 'alice'])).toEqual(put)
    const cleared = await cli.json(['users', 'put', 'alice', '--daily', 'none', '--email', 'none'])
    expect(cleared).toMatchObject({ tier: 'pro', email: null, limits: { dailyUsd: '10000.00' } })
    const { stdout } = await cli.run(['users', 'list'])
    expect(stdout.split('\n')[0]).toMatch(/^USER +TIER +PER TRADE/)
    expect(stdout).toMatch(/^alice +pro +2000\.00 +10000\.00 /m)
  })

  test('an unknown user is exit 2', async () => {
    const result = await cli.run(['users', 'get', 'nobody'])
    expect(result).toMatchObject({ code: 2, stdout: '' })
    expect(result.stderr).toMatch(/^purser: not found \(resource: user\)\nhint: /)
  })

  test('under --json the error is the last line of stderr', async () => {
    const result = await cli.run(['users', 'get', 'nobody', '--json'])
    expect(JSON.parse(result.stderr.trimEnd().split('\n').at(-1) ?? '')).toMatchObject({
      error: { code: 2001, data: { type: 'NotFound', resource: 'user' } },
    })
  })

  test('what the daemon does not accept is exit 64 and says which param', async () => {
    const result = await cli.run(['users', 'put', 'alice', '--daily', 'much'])
    expect(result.code).toBe(64)
    expect(result.stderr).toMatch(/^purser: .*\n {2}limits\.dailyUsd: /)
  })

  test('reset-decryptions', async () => {
    const result = await cli.run(['users', 'reset-decryptions', 'alice'])
    expect(result).toMatchObject({ code: 0, stdout: 'cleared 0 decryptions\n' })
  })

  test('a list longer than a page is one answer', async () => {
    const client = await cli.purser.client()
    await Promise.all(
      Array.from({ length: 1100 }, (_user, index) =>
        client.users.put({ userId: `u${index}`, tier: 'basic' }),
      ),
    )
    const { users, nextCursor } = await cli.json(['users', 'list'])
    expect(nextCursor).toBeNull()
    expect(new Set((users as { userId: string }[]).map((user) => user.userId)).size).toBe(1101)
    const { stdout } = await cli.run(['users', 'list'])
    expect(stdout.trimEnd().split('\n')).toHaveLength(1102)
  })

  test('a reader that goes away is no failure', async () => {
    const { startCli, finish } = await import('../run-cli.ts')
    const child = startCli(['users', 'list'], { env: { PURSER_SOCKET: cli.purser.socketPath } })
    child.stdout?.destroy()
    const result = await finish(child)
    expect(result).toMatchObject({ code: 0, signal: null, stderr: '' })
  })
})
