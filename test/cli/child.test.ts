import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { childExitCode, isForeground } from '../../src/cli/child.ts'

describe('isForeground', () => {
  test.each([
    ['in the foreground group', '12 (node) S 1 34 34 34816 34 0', true],
    ['in the background', '12 (node) S 1 34 34 34816 99 0', false],
    ['without a terminal', '12 (node) S 1 34 34 0 -1 0', false],
    ['a name that looks like fields', '12 (a) S 1 9 9 9 9) S 1 34 34 34816 99 0', false],
    ['nothing to read', '', false],
  ])('%s', (_name, stat, expected) => {
    expect(isForeground(stat)).toBe(expected)
  })

  test('reads what the kernel writes', () => {
    const stat = readFileSync('/proc/self/stat', 'utf8')
    const [, , group, , , terminal] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    expect(Number.isInteger(Number(group)) && Number(group) > 0).toBe(true)
    expect(isForeground(stat)).toBe(group === terminal)
  })
})

test('childExitCode is what a shell would show', () => {
  expect(childExitCode(0, null)).toBe(0)
  expect(childExitCode(7, null)).toBe(7)
  expect(childExitCode(null, 'SIGTERM')).toBe(143)
  expect(childExitCode(null, 'SIGKILL')).toBe(137)
})
