import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isLasting } from '../../../src/cli/top/source.ts'
import type { TopData } from '../../../src/cli/top/state.ts'
import { ConnectError, ConnectionLostError, ProtocolError, PurserError } from '../../../src/client/index.ts'
import { type Ledger, startLedger } from '../ledger.ts'
import { finish, runCli, startCli } from '../run-cli.ts'

test.each([
  ['forbidden', new PurserError('Forbidden', 1001, 'not allowed', { scope: 'admin' }), true],
  ['a socket that is barred', new ConnectError('EACCES', '/s', 'not permitted', ''), true],
  ['no purserd', new ProtocolError('no JSON'), true],
  ['a bug', new TypeError('x'), true],
  ['a daemon that drains', new PurserError('Overloaded', 1003, 'too busy', { retryAfterMs: 1 }), false],
  ['no daemon', new ConnectError('ENOENT', '/s', 'no socket', ''), false],
  ['a daemon that died', new ConnectionLostError('system.status'), false],
])('%s: no waiting helps: %s', (_name, error, lasting) => {
  expect(isLasting(error)).toBe(lasting)
})

describe('purser top without a terminal', { timeout: 30_000 }, () => {
  let ledger: Ledger
  beforeAll(async () => {
    ledger = await startLedger()
    await ledger.client.spend.reserve({ userId: 'alice', amountUsd: '250.000001', ttlSeconds: 3600 })
  })
  afterAll(() => ledger.purser.stop())

  const once_ = ['top', '--once', '--interval', '300ms']

  test('--once prints one frame of 80 by 24 at most, without escapes', async () => {
    const { code, stdout, stderr } = await ledger.run(once_)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const lines = stdout.trimEnd().split('\n')
    expect(lines.length).toBeLessThanOrEqual(24)
    expect(lines.every((line) => line.length <= 80)).toBe(true)
    expect(stdout).not.toContain('\x1b')
    expect(stdout).toMatch(/^purser \S+ {2}ok {2}up/)
    expect(stdout).toMatch(/^alice +\[\| +\] +2\.50% +9749\.999999/m)
    expect(stdout).toMatch(/^r1 +alice +1 +250\.000001/m)
  })

  test('--once takes COLUMNS and LINES', async () => {
    const { stdout } = await ledger.run(once_, { env: { COLUMNS: '40', LINES: '10' } })
    const lines = stdout.trimEnd().split('\n')
    expect(lines).toHaveLength(10)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(40)
  })

  test('--json is the figures; rates count what others ask, and not what top asks', async () => {
    const quiet = (await ledger.json(once_)) as unknown as TopData
    expect(quiet).toMatchObject({
      userCount: 2,
      health: { status: 'ok' },
      users: { rows: [{ userId: 'alice' }, { userId: 'bob' }], problem: null },
      reservations: { rows: [{ reservationId: 'r1', amountUsd: '250.000001' }] },
    })
    expect(quiet.rates?.requests).toBe(0)
    let stop = false
    const bot = (async () => {
      while (!stop) {
        await ledger.client.system.ping()
        await delay(5)
      }
    })()
    const busy = (await ledger.json(once_)) as unknown as TopData
    stop = true
    await bot
    expect(busy.rates?.methods.map(({ method }) => method)).toEqual(['system.ping'])
    expect(busy.rates?.requests).toBeGreaterThan(10)
    expect(busy.rates?.requests).toBeLessThan(250)
  })

  test('--json without --once is a line a look, over a restart too, until Ctrl-C', async () => {
    const child = startCli(['top', '--json', '--interval', '200ms'], {
      env: { PURSER_SOCKET: ledger.purser.socketPath },
    })
    const ended = once(child, 'close')
    const lines = createInterface({ input: child.stdout! })
    const next = async (): Promise<TopData & { away?: { message: string } }> => {
      const [line] = (await once(lines, 'line')) as [string]
      return JSON.parse(line)
    }
    expect((await next()).rates).toBeNull()
    expect((await next()).rates).not.toBeNull()
    await ledger.purser.kill('SIGKILL')
    let answer = await next()
    while (answer.away === undefined) answer = await next()
    expect(answer.away.message).toMatch(/nobody listens|connection was lost/)
    await ledger.purser.restart()
    while (answer.away !== undefined) answer = await next()
    expect(answer.users.rows).toHaveLength(2)
    child.kill('SIGINT')
    expect(await ended).toEqual([0, null])
  })

  test('ends without a word when its reader goes away', async () => {
    const child = startCli(['top', '--json', '--interval', '200ms'], {
      env: { PURSER_SOCKET: ledger.purser.socketPath },
    })
    await once(child.stdout!, 'data')
    child.stdout?.destroy()
    expect(await finish(child)).toMatchObject({ code: 0, signal: null, stderr: '' })
  })

  test('a live view without a terminal, and a daemon that is not there with --once', async () => {
    const live = await ledger.run(['top'])
    expect(live).toMatchObject({ code: 64, stdout: '' })
    expect(live.stderr).toContain('--once')
    const absent = await runCli(['top', '--once', '--socket', '/nonexistent/purser.sock'])
    expect(absent).toMatchObject({ code: 69, stdout: '' })
    expect(absent.stderr).toMatch(/^purser: no socket at .*\nhint: /)
  })
})
