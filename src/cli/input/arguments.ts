import { usageError } from '../cli-error.ts'

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Node's timers hold no more than this; about 24 days. */
const timerMaxMs = 2 ** 31 - 1

/**
 * Milliseconds, at most `mostMs`, of `30`, `30s`, `500ms`, `5m`, `24h` or `7d`; a bare number is seconds. Throws
 * CliError `usage`.
 */
export function parseDurationMs(argument: string, option: string, mostMs = timerMaxMs): number {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)?$/.exec(argument)
  const durationMs = Number(match?.[1]) * (unitMs[match?.[2] ?? 's'] ?? Number.NaN)
  if (match === null || !(durationMs > 0 && durationMs <= mostMs))
    throw usageError(`${option} takes a time like 30, 30s, 500ms, 5m or 7d`)
  return durationMs
}

/** A whole number from `least` to `most`. Throws CliError `usage`. */
export function parseInteger(argument: string, option: string, least: number, most: number): number {
  const value = /^\d{1,16}$/.test(argument) ? Number(argument) : Number.NaN
  if (!(value >= least && value <= most))
    throw usageError(`${option} takes a whole number from ${least} to ${most}`)
  return value
}

/** An id as it stands in `credentials list`. Throws CliError `usage`. */
export function parseCredentialId(argument: string): number {
  return parseInteger(argument, 'CREDENTIAL', 1, Number.MAX_SAFE_INTEGER)
}

/** RFC 3339 as it is, or a duration before `nowMs`. What is neither goes to the daemon, which says what is wrong. */
export function parseSince(argument: string, nowMs: number): string {
  if (!/^\d+(\.\d+)?(ms|s|m|h|d)$/.test(argument)) return argument
  return new Date(nowMs - parseDurationMs(argument, '--since and --until', nowMs)).toISOString()
}

/** `none` is null, which clears; anything else goes to the daemon as it is. */
export function orNull(argument: string): string | null {
  return argument === 'none' ? null : argument
}
