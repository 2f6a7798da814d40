import { visible } from './visible.ts'
import { displayWidth, padToWidth } from './width.ts'

/** How people see a scalar of an answer: `-` for null, `yes`/`no`, times without their milliseconds. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return '-'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'string') return value.replace(rfc3339Milliseconds, '$1Z')
  return String(value)
}

const rfc3339Milliseconds = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d{3}Z$/

/** Bound on what flatten() walks: answers are at most a few levels deep. */
const maxDepth = 6

type Line = readonly [name: string, value: string]

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function flattenInto(lines: Line[], prefix: string, value: unknown, depth: number): void {
  if (isObject(value) && depth < maxDepth) {
    const entries = Object.entries(value)
    if (entries.length === 0) lines.push([prefix, '-'])
    for (const [name, member] of entries)
      flattenInto(lines, prefix === '' ? name : `${prefix}.${name}`, member, depth + 1)
  } else if (Array.isArray(value)) {
    lines.push([prefix, value.length === 0 ? '-' : value.map((item) => inline(item)).join(', ')])
  } else {
    lines.push([prefix, inline(value)])
  }
}

function inline(value: unknown): string {
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : shown(value)
}

/** The members of an answer as `name value` pairs; nested ones as `outer.inner`. */
export function flatten(answer: unknown): Line[] {
  const lines: Line[] = []
  flattenInto(lines, '', answer, 0)
  return lines
}

/** Pairs under each other with the values aligned, made visible; one line each. */
export function formatPairs(pairs: readonly Line[]): string {
  const shownPairs = pairs.map(([name, value]) => [visible(name), visible(value)] as const)
  const width = shownPairs.reduce((most, [name]) => Math.max(most, displayWidth(name)), 0)
  return shownPairs.map(([name, value]) => `${padToWidth(name, width)}  ${value}\n`).join('')
}
