import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { usageColumns } from '../../../src/cli/commands/spend-view.ts'
import { createPaint } from '../../../src/cli/text/style.ts'
import { createTable } from '../../../src/cli/text/table.ts'
import type { CredentialUsage } from '../../../src/client/index.ts'
import { type Ledger, startLedger } from '../ledger.ts'

const plain = createPaint(false, {})

describe('the table of usage', () => {
  const row: CredentialUsage = {
    userId: 'a-user-with-a-rather-long-name-of-its-own',
    email: 'somebody@a-rather-long-domain.example.org',
    credentialId: 123,
    name: 'n'.repeat(40),
    spentUsd: '380.000001',
    limitUsd: '400.00',
    percent: 95,
  }
  const render = (terminalColumns: number | null): string =>
    createTable(usageColumns(terminalColumns), { terminalColumns, paint: plain })([row])

  test('has bars and cut names, but whole amounts, on a terminal', () => {
    expect(render(80)).toContain('380.000001  400.00  95.00%  [||||||||||| ]')
    expect(
      render(80)
        .split('\n')
        .every((line) => line.length <= 80),
    ).toBe(true)
    expect(render(40)).toContain('380.000001  400.00  95.00%')
  })

  test('cuts nothing and draws nothing for programs', () => {
    expect(render(null)).toContain(row.email ?? '')
    expect(render(null)).not.toContain('[|')
  })
})

describe('purser spend usage', { timeout: 30_000 }, () => {
  let ledger: Ledger
  beforeAll(async () => {
    ledger = await startLedger()
    await ledger.client.spend.record({ userId: 'alice', amountUsd: '21' })
  })
  afterAll(() => ledger.purser.stop())

  test('follows cursors to the last credential', async () => {
    const secret = `${Buffer.alloc(32, 8).toString('base64url')}=`
    await ledger.client.users.put({ userId: 'many', email: 'many@example.org' })
    const stored = Array.from({ length: 1000 }, (_credential, index) =>
      ledger.client.credentials.store({
        userId: 'many',
        apiKey: `k-${index}`,
        apiSecret: secret,
        dailySpendLimitUsd: '10',
      }),
    )
    await Promise.all(stored)
    const { usage, nextCursor } = await ledger.json(['spend', 'usage'])
    expect(nextCursor).toBeNull()
    const rows = usage as CredentialUsage[]
    expect(new Set(rows.map((row) => row.credentialId)).size).toBe(1001)
    expect(rows[0]).toMatchObject({ userId: 'alice', email: 'alice@example.org', percent: 5.25 })
    const { stdout } = await ledger.run(['spend', 'usage'])
    expect(stdout.trimEnd().split('\n')).toHaveLength(1002)
    expect(stdout).toMatch(/^many +many@example\.org +\d+ +- +0\.00 +10\.00 +0\.00%$/m)
  })
})
