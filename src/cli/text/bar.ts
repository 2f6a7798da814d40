import type { Colour } from './style.ts'

/** Shares of a limit from which on people should look; the daemon's log warns at the same ones. */
const watchPercent = 80
const alarmPercent = 95

/**
 * How full something is, `columns` (3 or more) wide: `[|||||     ]`. ASCII, for every terminal and character set. Full
 * only from 100 percent on, and never empty above 0.
 */
export function bar(percent: number, columns: number): string {
  const cells = Math.max(1, columns - 2)
  const marks = Math.floor((Math.min(Math.max(percent, 0), 100) / 100) * cells)
  const shown = percent > 0 ? Math.max(1, marks) : 0
  return `[${'|'.repeat(shown)}${' '.repeat(cells - shown)}]`
}

/** `52.10%`: the daemon's figure, which has at most 2 places. */
export function percentText(percent: number): string {
  return `${percent.toFixed(2)}%`
}

/** Green, yellow from 80 percent on, red from 95. */
export function percentColour(percent: number): Colour {
  if (percent >= alarmPercent) return 'red'
  return percent >= watchPercent ? 'yellow' : 'green'
}
