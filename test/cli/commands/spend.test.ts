import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseTtlSeconds } from '../../../src/cli/commands/spend-acts.ts'
import { describeSpendStatus } from '../../../src/cli/commands/spend-view.ts'
import { createPaint } from '../../../src/cli/text/style.ts'
import type { SpendStatus } from '../../../src/client/index.ts'
import { type Ledger, startLedger } from '../ledger.ts'

const plain = createPaint(false, {})

test('--ttl is whole seconds', () => {
  expect(parseTtlSeconds('90')).toBe(90)
  expect(parseTtlSeconds('5m')).toBe(300)
  for (const wrong of ['1500ms', '0', '-1', 'soon', '']) expect(() => parseTtlSeconds(wrong)).toThrow('--ttl')
})

const daily = {
  limitUsd: '9007199254.740993',
  spentUsd: '9007199254.740992',
  reservedUsd: '0.000001',
  remainingUsd: '0.00',
  percent: 100,
  resetsAt: '2026-11-25T00:00:00.000Z',
}
const status: SpendStatus = {
  userId: 'alice\x1b[2J',
  tier: 'pro',
  frozen: { reason: 'odd\norders', since: '2026-11-24T08:00:00.000Z' },
  perTrade: { limitUsd: '2000.00' },
  credentialDaily: null,
  userDaily: daily,
  exposure: {
    limitUsd: '10000.00',
    openUsd: '8000.00',
    reservedUsd: '50.00',
    remainingUsd: '1950.00',
    percent: 80.5,
  },
  worstCaseUsd: '8050.00',
  unbounded: ['private_key_retrievable', 'sell_without_floor'],
}

describe('describeSpendStatus', () => {
  test('is exact, escaped and without bars for programs', () => {
    expect(describeSpendStatus(status, { terminalColumns: null, paint: plain })).toBe(
      [
        'user      alice\\x1b[2J',
        'tier      pro',
        'frozen    since 2026-11-24T08:00:00Z: odd\\x0aorders',
        'day ends  2026-11-25T00:00:00Z',
        '',
        'LEVEL                   USED  RESERVED              LIMIT     LEFT        %',
        'per trade                  -         -            2000.00  2000.00        -',
        'user, day  9007199254.740992  0.000001  9007199254.740993     0.00  100.00%',
        'exposure             8000.00     50.00           10000.00  1950.00   80.50%',
        '',
        'worst case  8050.00',
        'unbounded   private_key_retrievable, sell_without_floor',
        '',
      ].join('\n'),
    )
  })

  test.each([20, 40, 80, 200])('keeps every amount whole on a terminal of %i columns', (terminalColumns) => {
    const text = describeSpendStatus(status, { terminalColumns, paint: plain })
    for (const amount of ['9007199254.740992', '9007199254.740993', '0.000001', '10000.00', '1950.00'])
      expect(text.split(/\s+/)).toContain(amount)
    expect(text.includes('[||')).toBe(terminalColumns >= 72)
  })
})

describe('purser spend', { timeout: 30_000 }, () => {
  let ledger: Ledger
  beforeAll(async () => {
    ledger = await startLedger()
  })
  afterAll(() => ledger.purser.stop())

  test('check, and exit 4 with the numbers where a limit says no', async () => {
    const allowed = await ledger.run(['spend', 'check', '25', '--user', 'alice'])
    expect(allowed).toMatchObject({ code: 0, stderr: '' })
    expect(allowed.stdout).toMatch(/^allowed +yes$/m)
    expect(allowed.stdout).toMatch(/^remaining\.credentialDailyUsd +400\.00$/m)
    const refused = await ledger.run(['spend', 'check', '--user', 'bob', '100.000001', '--json'])
    expect(refused).toMatchObject({ code: 4, stdout: '' })
    expect(refused.stderr).toMatch(/^purser: over the limit per trade: 100\.000001 USD asked for/)
    expect(refused.stderr).toMatch(/^hint: /m)
    expect(JSON.parse(refused.stderr.trimEnd().split('\n').at(-1) ?? '')).toMatchObject({
      error: { code: 3001, data: { type: 'SpendLimitExceeded', requestedUsd: '100.000001' } },
    })
  })

  test('reserve, partial capture, void; a repetition is the same act', async () => {
    const reserve = [
      'spend',
      'reserve',
      '50.000001',
      '--user',
      'alice',
      '--ttl',
      '10m',
      '--idempotency-key',
      'k1',
    ]
    const held = await ledger.json(reserve)
    expect(held).toMatchObject({ state: 'held', amountUsd: '50.000001' })
    expect(await ledger.json(reserve)).toEqual(held)
    const conflict = await ledger.run(reserve.with(2, '51'))
    expect(conflict).toMatchObject({ code: 1 })
    expect(conflict.stderr).toContain('field: amountUsd')
    const id = String(held['reservationId'])
    expect(await ledger.json(['spend', 'capture', id, '20', '--trade', 't-1', '--keep'])).toMatchObject({
      amountUsd: '20.00',
      heldUsd: '30.000001',
      releasedUsd: '0.00',
    })
    const voided = await ledger.run(['spend', 'void', id, '--reason', 'order cancelled'])
    expect(voided).toMatchObject({ code: 0, stdout: 'releasedUsd  30.000001\n' })
    const again = await ledger.run(['spend', 'capture', id])
    expect(again).toMatchObject({ code: 1 })
    expect(again.stderr).toContain('state: voided')
  })

  test('record says where it passes a limit', async () => {
    const within = await ledger.run(['spend', 'record', '1', '--user', 'alice', '--credential', '1'])
    expect(within).toMatchObject({ code: 0, stderr: '' })
    const over = await ledger.run(['spend', 'record', '700.5', '--user', 'bob', '--trade', '7'])
    expect(over.code).toBe(0)
    expect(over.stdout).toMatch(/^overLimit +yes$/m)
    expect(over.stderr).toContain('purser: this passes a limit')
    expect(await ledger.json(['spend', 'status', '--user', 'bob'])).toMatchObject({
      userDaily: { spentUsd: '700.50', remainingUsd: '0.00' },
    })
  })

  test('status for people', async () => {
    const { stdout } = await ledger.run(['spend', 'status', '--user', 'alice'])
    expect(stdout).toMatch(/^credential, day +21\.00 +0\.00 +400\.00 +379\.00 +5\.25%$/m)
    expect(stdout).toMatch(/^worst case +10000\.00$/m)
  })

  test.each([
    [['spend', 'check', '0', '--user', 'alice'], 64, 'amountUsd: '],
    [['spend', 'check', '1e3', '--user', 'alice'], 64, 'amountUsd: '],
    [['spend', 'check', '--user', 'alice', '--', '-5'], 64, 'amountUsd: '],
    [['spend', 'check', '5'], 64, "required option '--user <USER>'"],
    [
      ['spend', 'check', '5', '--user', 'alice', '--credential', 'x'],
      64,
      '--credential takes a whole number',
    ],
    [['spend', 'check', '5', '--user', 'alice', '--credential', '99'], 2, 'resource: credential'],
    [['spend', 'reserve', '5', '--user', 'alice', '--ttl', '25h'], 64, 'ttlSeconds: '],
    [['spend', 'status', '--user', 'nobody'], 2, 'resource: user'],
    [['spend', 'void', 'r999'], 2, 'resource: reservation'],
  ])('%j is exit %i', async (args, code, text) => {
    const result = await ledger.run(args)
    expect(result).toMatchObject({ code, stdout: '' })
    expect(result.stderr).toContain(text)
  })
})
