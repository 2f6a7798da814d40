import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseMetrics } from '../../../src/cli/top/metrics.ts'
import { type Ledger, startLedger } from '../ledger.ts'
import { noPty, type PtyResult, type PtyStep, runOnPty } from '../on-terminal.ts'
import { Terminal } from './terminal.ts'

if (noPty !== null) console.log(`skipped: purser top on a terminal: ${noPty}`)

describe.skipIf(noPty !== null)('purser top on a terminal', { timeout: 40_000 }, () => {
  let ledger: Ledger
  beforeAll(async () => {
    ledger = await startLedger()
    await ledger.client.spend.reserve({ userId: 'alice', amountUsd: '250.000001', ttlSeconds: 3600 })
    await ledger.client.spend.record({ userId: 'bob', amountUsd: '410.5' })
  })
  afterAll(() => ledger.purser.stop())

  const top = (steps: readonly PtyStep[], ...args: string[]): Promise<PtyResult> =>
    runOnPty(['top', '--interval', '200ms', '--socket', ledger.purser.socketPath, ...args], steps)

  /** Plays the output on a terminal and checks that it was left as it was found. */
  function played({ output }: PtyResult, rows = 24): Terminal {
    const terminal = new Terminal(rows)
    terminal.write(output)
    const { alternate, cursorShown, wraps, outside } = terminal
    expect({ alternate, cursorShown, wraps }).toEqual({ alternate: false, cursorShown: true, wraps: true })
    expect(outside.trim()).toBe('')
    return terminal
  }

  const restored = { echo: true, canonical: true }

  test('shows users, holds and entries, and q gives the terminal back', async () => {
    const result = await top([
      ['spend_recorded', ''],
      ['UTC', 'xyz'],
      ['UTC', 'q'],
    ])
    expect(result).toMatchObject({ ...restored, code: 0 })
    const { last } = played(result)
    expect(last[0]).toMatch(/^purser \S+ {2}ok {2}up \d+s {2}q quits +\d\d:\d\d:\d\d UTC$/)
    expect(last[1]).toMatch(/^requests \d+\.\d\/s/)
    const bob = last.findIndex((line) => line.startsWith('bob '))
    expect(last[bob]).toMatch(/^bob +\[\|+ +\] +82\.10% +89\.50 +\[\|+ +\] +82\.10% +89\.50$/)
    expect(last[bob + 1]).toMatch(/^alice +\[\| +\] +2\.50% +9749\.999999/)
    expect(last.find((line) => line.startsWith('r1 '))).toMatch(/^r1 +alice +1 +250\.000001 +0\.00 .*in 59m/)
    expect(last.find((line) => line.includes('spend_recorded'))).toMatch(/bob +- +cli-test\/1/)
  })

  test.each([
    ['Ctrl-C', '\x03', { code: 0 }],
    ['SIGINT', { signal: 'SIGINT' }, { code: 0 }],
    ['SIGTERM', { signal: 'SIGTERM' }, { signal: 'SIGTERM' }],
    ['SIGHUP', { signal: 'SIGHUP' }, { signal: 'SIGHUP' }],
  ] as const)('%s gives the terminal back too', async (_name, send, expected) => {
    const result = await top([['alice', send]])
    expect(result).toMatchObject({ ...restored, ...expected })
    expect(played(result).last[0]).toMatch(/^purser/)
  })

  test('takes the size the terminal is given, at once', async () => {
    const result = await top(
      [
        ['alice', { resize: [40, 10] }],
        ['ACTION', { resize: [120, 30] }],
        ['DETAILS', 'q'],
      ],
      // So long that no look comes between: only the change itself can have been drawn.
      '--interval',
      '20s',
    )
    expect(result).toMatchObject({ ...restored, code: 0 })
    const { last } = played(result, 30)
    expect(last[0]).toMatch(/^.{108}\d\d:\d\d:\d\d UTC$/)
    expect(last.some((line) => line.includes('WORST CASE'))).toBe(true)
    const narrow = new Terminal(10)
    // The frame of 40 columns is whatever was drawn before the one of 120.
    narrow.write(result.output.slice(0, result.output.lastIndexOf('\x1b[1;1H')))
    for (const line of narrow.lines) expect(line.length).toBeLessThanOrEqual(40)
    expect(narrow.lines.filter((line) => line !== '')).toHaveLength(10)
  })

  test('Ctrl-Z gives the terminal back, and going on takes it again', async () => {
    const result = await top([
      ['alice', '\x1a'],
      ['alice', 'q'],
    ])
    expect(result).toMatchObject({ ...restored, code: 0 })
    expect(played(result).entered).toBeGreaterThanOrEqual(2)
  })

  test('says that the daemon is away, and goes on when it is back', async () => {
    const before = await listings(ledger)
    const shown = top([
      ['alice', ''],
      ['no answer since', ''],
      ['requests', ''],
      ['alice', 'q'],
    ])
    while ((await listings(ledger)) === before) await delay(50)
    // The look that has begun is shown, too.
    await delay(500)
    await ledger.purser.kill('SIGKILL')
    await delay(1000)
    await ledger.purser.restart()
    const result = await shown
    expect(result).toMatchObject({ ...restored, code: 0 })
    expect(result.output).toMatch(
      /no answer since \d\d:\d\d:\d\d UTC: (nobody listens at|the connection was lost)/,
    )
    expect(played(result).last.join('\n')).not.toContain('no answer')
  })

  test('waits for a daemon that is not there yet; q works meanwhile', async () => {
    const result = await runOnPty(['top', '--socket', '/nonexistent/purser.sock'], [['trying again', 'q']])
    expect(result).toMatchObject({ ...restored, code: 0 })
    const { last } = played(result)
    expect(last[0]).toMatch(/^purser {2}away/)
    expect(last.join(' ')).toContain('no socket at /nonexistent/purser.sock hint: is purserd running?')
  })

  test('ends with the error where no waiting will help, after giving the terminal back', async () => {
    const missing = await runOnPty(['top', '--token-file', '/nonexistent/token'], [])
    expect(missing).toMatchObject({ ...restored, code: 66 })
    const terminal = new Terminal(24)
    terminal.write(missing.output)
    expect(terminal.alternate).toBe(false)
    expect(terminal.outside).toContain('purser: cannot read /nonexistent/token')
  })
})

/** How often anybody has listed the users since the daemon's start. */
async function listings({ client }: Ledger): Promise<number> {
  const { text } = await client.system.metrics()
  return parseMetrics(text, 0).requests.get('users.list') ?? 0
}
