import type { AuditEntry, Reservation, SpendStatus } from '../../client/index.ts'
import { bar, percentColour, percentText } from '../text/bar.ts'
import type { Colour } from '../text/style.ts'
import { shown } from '../text/values.ts'
import type { ScreenColumn } from './columns.ts'

/** Room for `100.00%`, and the least that a bar needs to say anything. */
const percentColumns = 7
const leastBarColumns = 5

/** `[||||   ]  52.10%`, or the figure alone where there is no room for a bar. */
export function gauge(percent: number, columns: number): string {
  const figure = percentText(percent).padStart(percentColumns)
  const barColumns = columns - figure.length - 1
  return barColumns < leastBarColumns ? figure : `${bar(percent, barColumns)} ${figure}`
}

const gaugeSize = { least: percentColumns, good: 16, most: 40 }
const nameSize = { least: 6, good: 10, most: 32 }

/** The list of users. */
export function userColumns(users: readonly SpendStatus[]): readonly ScreenColumn<SpendStatus>[] {
  const state: ScreenColumn<SpendStatus> = {
    title: 'STATE',
    value: ({ frozen }) => (frozen === null ? '-' : 'frozen'),
    rank: 4,
    size: 'exact',
    colour: ({ frozen }) => (frozen === null ? null : 'red'),
  }
  return [
    { title: 'USER', value: (user) => user.userId, rank: 1, size: nameSize },
    { title: 'TIER', value: (user) => user.tier, rank: 10, size: { least: 7, good: 8, most: 12 } },
    // Most users are not frozen most of the time, and room is dear.
    ...(users.some(({ frozen }) => frozen !== null) ? [state] : []),
    {
      title: 'DAY',
      value: ({ userDaily }, width) => gauge(userDaily.percent, width),
      rank: 2,
      size: gaugeSize,
      colour: ({ userDaily }) => percentColour(userDaily.percent),
    },
    {
      title: 'DAY LEFT',
      value: ({ userDaily }) => userDaily.remainingUsd,
      rank: 5,
      size: 'exact',
      align: 'right',
    },
    {
      title: 'DAY LIMIT',
      value: ({ userDaily }) => userDaily.limitUsd,
      rank: 8,
      size: 'exact',
      align: 'right',
    },
    {
      title: 'EXPOSURE',
      value: ({ exposure }, width) => gauge(exposure.percent, width),
      rank: 3,
      size: { ...gaugeSize, least: 8 },
      colour: ({ exposure }) => percentColour(exposure.percent),
    },
    {
      title: 'EXP LEFT',
      value: ({ exposure }) => exposure.remainingUsd,
      rank: 6,
      size: 'exact',
      align: 'right',
    },
    {
      title: 'EXP LIMIT',
      value: ({ exposure }) => exposure.limitUsd,
      rank: 9,
      size: 'exact',
      align: 'right',
    },
    { title: 'HELD', value: ({ exposure }) => exposure.reservedUsd, rank: 11, size: 'exact', align: 'right' },
    { title: 'WORST CASE', value: (user) => user.worstCaseUsd, rank: 7, size: 'exact', align: 'right' },
  ]
}

/** `42s`, `3m 05s`, `2h 10m`, `4d 03h`: how long something takes or took. */
export function durationText(durationMs: number): string {
  const seconds = Math.max(0, Math.floor(durationMs / 1000))
  const two = (value: number): string => String(value).padStart(2, '0')
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ${two(Math.floor((seconds % 3600) / 60))}m`
  return `${Math.floor(seconds / 86_400)}d ${two(Math.floor((seconds % 86_400) / 3600))}h`
}

/** The list of open holds. */
export function reservationColumns(nowMs: number): readonly ScreenColumn<Reservation>[] {
  const expires = ({ signed, expiresAt }: Reservation): string => {
    if (expiresAt !== null) return `in ${durationText(Date.parse(expiresAt) - nowMs)}`
    return signed ? 'signed' : '-'
  }
  return [
    { title: 'HELD', value: (hold) => hold.reservationId, rank: 4, size: 'exact' },
    { title: 'USER', value: (hold) => hold.userId, rank: 1, size: nameSize },
    { title: 'CRED', value: (hold) => shown(hold.credentialId), rank: 6, size: 'exact', align: 'right' },
    { title: 'AMOUNT', value: (hold) => hold.amountUsd, rank: 2, size: 'exact', align: 'right' },
    { title: 'CAPTURED', value: (hold) => hold.capturedUsd, rank: 5, size: 'exact', align: 'right' },
    {
      title: 'AGE',
      value: (hold) => durationText(nowMs - Date.parse(hold.createdAt)),
      rank: 7,
      size: 'exact',
    },
    { title: 'EXPIRES', value: expires, rank: 3, size: 'exact' },
  ]
}

const outcomeColours: Readonly<Record<string, Colour>> = { ok: 'green', denied: 'yellow', error: 'red' }

/** `21:03:09` of an RFC 3339 time in UTC. */
export function clockText(time: string): string {
  return time.slice(11, 19)
}

function describeBy({ peer, client }: AuditEntry): string {
  return client ?? peer?.comm ?? (peer === null ? '-' : `uid ${peer.uid}`)
}

/** The list of the last audit entries. */
export const entryColumns: readonly ScreenColumn<AuditEntry>[] = [
  { title: 'AUDIT', value: (entry) => String(entry.seq), rank: 5, size: 'exact', align: 'right' },
  { title: 'AT', value: (entry) => clockText(entry.at), rank: 3, size: 'exact' },
  {
    title: 'OUTCOME',
    value: (entry) => entry.outcome,
    rank: 4,
    size: 'exact',
    colour: (entry) => outcomeColours[entry.outcome] ?? null,
  },
  { title: 'ACTION', value: (entry) => entry.action, rank: 1, size: { least: 8, good: 14, most: 18 } },
  { title: 'USER', value: (entry) => shown(entry.userId), rank: 2, size: nameSize },
  { title: 'CRED', value: (entry) => shown(entry.credentialId), rank: 7, size: 'exact', align: 'right' },
  { title: 'BY', value: describeBy, rank: 6, size: { least: 8, good: 12, most: 30 } },
  {
    title: 'DETAILS',
    value: (entry) => JSON.stringify(entry.details),
    rank: 8,
    size: { least: 12, good: 20, most: 200 },
  },
]
