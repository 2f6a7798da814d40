import type { CredentialUsage, SpendStatus, Usd } from '../../client/index.ts'
import type { Output } from '../output.ts'
import { bar, percentColour, percentText } from '../text/bar.ts'
import { type Column, createTable } from '../text/table.ts'
import { formatPairs, shown } from '../text/values.ts'

const barColumns = 14
/** On a narrower terminal the figures need the room. */
const barTerminalColumnsMin = 72

/** Bars are for people at a terminal that has room for them. */
function showsBars(terminalColumns: number | null): boolean {
  return terminalColumns !== null && terminalColumns >= barTerminalColumnsMin
}

/** The table of `spend usage`. */
export function usageColumns(terminalColumns: number | null): readonly Column<CredentialUsage>[] {
  const columns: readonly Column<CredentialUsage>[] = [
    { title: 'USER', value: (usage) => usage.userId, keep: true },
    { title: 'EMAIL', value: (usage) => shown(usage.email) },
    { title: 'CRED', value: (usage) => String(usage.credentialId), align: 'right', whole: true },
    { title: 'NAME', value: (usage) => shown(usage.name) },
    { title: 'SPENT', value: (usage) => usage.spentUsd, align: 'right', whole: true },
    { title: 'LIMIT', value: (usage) => usage.limitUsd, align: 'right', whole: true },
    {
      title: 'USED',
      value: (usage) => percentText(usage.percent),
      align: 'right',
      whole: true,
      colour: (usage) => percentColour(usage.percent),
    },
  ]
  if (!showsBars(terminalColumns)) return columns
  return [
    ...columns,
    {
      title: '',
      value: (usage) => bar(usage.percent, barColumns),
      whole: true,
      colour: (usage) => percentColour(usage.percent),
    },
  ]
}

/** One level of `spend status`; null where the level has no such figure. */
type LevelRow = {
  readonly level: string
  readonly usedUsd: Usd | null
  readonly reservedUsd: Usd | null
  readonly limitUsd: Usd
  readonly leftUsd: Usd
  readonly percent: number | null
}

function levelRows({ perTrade, credentialDaily, userDaily, exposure }: SpendStatus): LevelRow[] {
  const daily = (level: string, usage: SpendStatus['userDaily']): LevelRow => ({
    level,
    usedUsd: usage.spentUsd,
    reservedUsd: usage.reservedUsd,
    limitUsd: usage.limitUsd,
    leftUsd: usage.remainingUsd,
    percent: usage.percent,
  })
  const { limitUsd } = perTrade
  return [
    { level: 'per trade', usedUsd: null, reservedUsd: null, limitUsd, leftUsd: limitUsd, percent: null },
    ...(credentialDaily === null ? [] : [daily('credential, day', credentialDaily)]),
    daily('user, day', userDaily),
    {
      level: 'exposure',
      usedUsd: exposure.openUsd,
      reservedUsd: exposure.reservedUsd,
      limitUsd: exposure.limitUsd,
      leftUsd: exposure.remainingUsd,
      percent: exposure.percent,
    },
  ]
}

function levelColumns(terminalColumns: number | null): readonly Column<LevelRow>[] {
  const colour = ({ percent }: LevelRow) => (percent === null ? null : percentColour(percent))
  const columns: readonly Column<LevelRow>[] = [
    { title: 'LEVEL', value: (row) => row.level, keep: true },
    { title: 'USED', value: (row) => shown(row.usedUsd), align: 'right', whole: true },
    { title: 'RESERVED', value: (row) => shown(row.reservedUsd), align: 'right', whole: true },
    { title: 'LIMIT', value: (row) => row.limitUsd, align: 'right', whole: true },
    { title: 'LEFT', value: (row) => row.leftUsd, align: 'right', whole: true },
    {
      title: '%',
      value: ({ percent }) => (percent === null ? '-' : percentText(percent)),
      align: 'right',
      whole: true,
      colour,
    },
  ]
  if (!showsBars(terminalColumns)) return columns
  const asBar = ({ percent }: LevelRow) => (percent === null ? '' : bar(percent, barColumns))
  return [...columns, { title: '', value: asBar, whole: true, colour }]
}

/** The answer of `spend.status` for people. */
export function describeSpendStatus(
  status: SpendStatus,
  { terminalColumns, paint }: Pick<Output, 'terminalColumns' | 'paint'>,
): string {
  const { frozen } = status
  const head = formatPairs([
    ['user', status.userId],
    ['tier', status.tier],
    ['frozen', frozen === null ? '-' : `since ${shown(frozen.since)}: ${frozen.reason}`],
    ['day ends', shown(status.userDaily.resetsAt)],
  ])
  const table = createTable(levelColumns(terminalColumns), { terminalColumns, paint })
  const worst = formatPairs([
    ['worst case', status.worstCaseUsd],
    ['unbounded', status.unbounded.length === 0 ? '-' : status.unbounded.join(', ')],
  ])
  return `${head}\n${table(levelRows(status))}\n${worst}`
}
