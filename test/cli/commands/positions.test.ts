import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { closeParams, positionColumns } from '../../../src/cli/commands/positions.ts'
import { reservationColumns } from '../../../src/cli/commands/reservations.ts'
import { createPaint } from '../../../src/cli/text/style.ts'
import { createTable } from '../../../src/cli/text/table.ts'
import type { Position, Reservation } from '../../../src/client/index.ts'
import { type Ledger, startLedger } from '../ledger.ts'

const plain = createPaint(false, {})

test('closeParams wants one name of the position', () => {
  expect(closeParams('p1', { user: 'a', amount: '5' })).toEqual({
    userId: 'a',
    positionId: 'p1',
    amountUsd: '5',
  })
  expect(closeParams(undefined, { user: 'a', trade: 't' })).toEqual({ userId: 'a', tradeId: 't' })
  expect(() => closeParams(undefined, { user: 'a' })).toThrow('which position?')
  expect(() => closeParams('p1', { user: 'a', trade: 't' })).toThrow('which position?')
})

test('tables fit 80 columns with whole amounts, and show everything where nothing is cut', () => {
  const hold: Reservation = {
    reservationId: 'r123456',
    userId: 'a',
    credentialId: 12,
    amountUsd: '1234567.000001',
    capturedUsd: '1000.00',
    state: 'captured',
    signed: true,
    digest: `0x${'ab'.repeat(32)}`,
    createdAt: '2026-11-24T08:00:00.000Z',
    expiresAt: null,
    postHeadersAt: null,
  }
  const position: Position = {
    positionId: 'p123456',
    userId: 'a',
    credentialId: 12,
    tradeId: '0190e3a0-7a5c-7f1e-8a44-1b2c3d4e5f60',
    amountUsd: '1234567.000001',
    openUsd: '1234566.99',
    state: 'open',
    openedAt: '2026-11-24T08:00:00.000Z',
    closedAt: null,
  }
  for (const terminalColumns of [80, null]) {
    const options = { terminalColumns, paint: plain }
    const text =
      createTable(reservationColumns(terminalColumns), options)([hold]) +
      createTable(positionColumns(terminalColumns), options)([position])
    expect(text.match(/1234567\.000001/g)).toHaveLength(2)
    expect(text).toContain('1234566.99')
    if (terminalColumns === null) expect(text).toContain(hold.digest ?? '')
    else expect(text.split('\n').every((line) => line.length <= terminalColumns)).toBe(true)
  }
})

describe('purser positions and reservations', { timeout: 30_000 }, () => {
  let ledger: Ledger
  beforeAll(async () => {
    ledger = await startLedger()
    const { client } = ledger
    const held = await client.spend.reserve({ userId: 'alice', amountUsd: '12.5', ttlSeconds: 3600 })
    await client.spend.capture({ reservationId: held.reservationId, amountUsd: '2.5', tradeId: 't-1' })
    await client.spend.record({ userId: 'alice', amountUsd: '30', tradeId: 't-2' })
    await client.spend.reserve({ userId: 'alice', amountUsd: '7', ttlSeconds: 3600 })
  })
  afterAll(() => ledger.purser.stop())

  test('reservations: held unless said otherwise, with and without `list`', async () => {
    for (const args of [
      ['reservations', '--user', 'alice'],
      ['reservations', 'list', '--user', 'alice', '--state', 'held', '--no-signed'],
    ]) {
      const { code, stdout } = await ledger.run(args)
      expect(code).toBe(0)
      expect(stdout.split('\n')[0]).toMatch(/^ID +CRED +AMOUNT +CAPTURED +STATE +SIGNED +EXPIRES/)
      expect(stdout).toMatch(/^r2 +1 +7\.00 +0\.00 +held +no +20/m)
      expect(stdout.trimEnd().split('\n')).toHaveLength(2)
    }
    const captured = await ledger.json(['reservations', '--user', 'alice', '--state', 'captured'])
    expect(captured).toMatchObject({
      reservations: [{ reservationId: 'r1', amountUsd: '12.50', capturedUsd: '2.50' }],
      nextCursor: null,
    })
    const signed = await ledger.run(['reservations', '--user', 'alice', '--signed'])
    expect(signed).toMatchObject({ code: 0, stdout: '', stderr: 'no reservations\n' })
  })

  test('positions: listed, closed in parts, closed by trade, and once only', async () => {
    const { stdout } = await ledger.run(['positions', '--user', 'alice'])
    expect(stdout).toMatch(/^p1 +1 +2\.50 +2\.50 +open +.* t-1$/m)
    const close = ['positions', 'close', '--user', 'alice', '--trade', 't-2', '--amount', '10']
    const first = await ledger.json([...close, '--idempotency-key', 'c1'])
    expect(first).toEqual({ closedUsd: '10.00', openUsd: '20.00' })
    expect(await ledger.json([...close, '--idempotency-key', 'c1'])).toEqual(first)
    const above = await ledger.run(['positions', 'close', 'p2', '--user', 'alice', '--amount', '20.01'])
    expect(above).toMatchObject({ code: 64, stdout: '' })
    expect(above.stderr).toContain('amountUsd: is above what is open, 20.00')
    expect(await ledger.run(['positions', 'close', 'p2', '--user', 'alice'])).toMatchObject({
      code: 0,
      stdout: 'closedUsd  20.00\nopenUsd    0.00\n',
    })
    expect(await ledger.json(['positions', 'list', '--user', 'alice', '--state', 'closed'])).toMatchObject({
      positions: [{ positionId: 'p2', tradeId: 't-2', openUsd: '0.00' }],
    })
  })

  test.each([
    [['reservations'], 64, "required option '--user <USER>'"],
    [['reservations', '--user', 'alice', '--state', 'open'], 64, 'Allowed choices'],
    [['reservations', 'lst', '--user', 'alice'], 64, "too many arguments for 'list'"],
    [['reservations', '--user', 'nobody'], 2, 'resource: user'],
    [['positions', 'close', '--user', 'alice'], 64, 'which position?'],
    [['positions', 'close', 'p99', '--user', 'alice'], 2, 'resource: position'],
    [['positions', 'close', 'p1', '--user', 'bob'], 2, 'resource: position'],
  ])('%j is exit %i', async (args, code, text) => {
    const result = await ledger.run(args)
    expect(result).toMatchObject({ code, stdout: '' })
    expect(result.stderr).toContain(text)
  })
})
