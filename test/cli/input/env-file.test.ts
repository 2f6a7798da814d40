import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseEnvFile } from '../../../src/cli/input/env-file.ts'

const seed = Number(process.env['PURSER_TEST_SEED'] ?? Date.now() % 2 ** 31)

function values(text: string): Record<string, string> {
  return Object.fromEntries(parseEnvFile(text).entries.map(({ name, value }) => [name, value]))
}

describe('parseEnvFile', () => {
  test.each([
    ['plain', 'A=1', { A: '1' }],
    ['spaces around the equals sign and the value', '  A =  x y  ', { A: 'x y' }],
    ['export', 'export A=1\nexport\tB=2', { A: '1', B: '2' }],
    ['double quotes', 'A="x # y"', { A: 'x # y' }],
    ['single quotes', "A='x \\n y'", { A: 'x \\n y' }],
    ['backtick quotes', 'A=`x"\'y`', { A: 'x"\'y' }],
    ['escapes in double quotes', 'A="x\\ny\\"z\\\\"', { A: 'x\ny"z\\' }],
    ['a backslash that escapes nothing', 'A="x\\q"', { A: 'x\\q' }],
    ['comments', '# c\n  # c\nA=1 # c\nB="2" # c\nC=3#no', { A: '1', B: '2', C: '3#no' }],
    ['CRLF and CR', 'A=1\r\nB="2"\r\nC=3\rD=4', { A: '1', B: '2', C: '3', D: '4' }],
    ['empty values', 'A=\nB=""\nC= # c', { A: '', B: '', C: '' }],
    ['an equals sign in the value', 'A=abc==', { A: 'abc==' }],
    ['nothing is expanded', `A=$B\nB=\${C}`, { A: '$B', B: `\${C}` }],
    ['several lines in quotes', 'A="x\ny"\nB=2', { A: 'x\ny', B: '2' }],
    ['no file at all', '', {}],
  ])('%s', (_name, text, expected) => {
    expect(parseEnvFile(text).unreadableLines).toEqual([])
    expect(values(text)).toEqual(expected)
  })

  test('counts lines, also those inside quotes', () => {
    const { entries } = parseEnvFile('# one\nA="\n\n"\nB=1\n')
    expect(entries.map(({ name, line }) => [name, line])).toEqual([
      ['A', 2],
      ['B', 5],
    ])
  })

  test('tells of lines it cannot read and goes on behind them', () => {
    const file = parseEnvFile('what is this\nA=\'never closed\nB=1\n=2\nC="x"y\nD=3')
    expect(file.unreadableLines).toEqual([1, 2, 4, 5])
    expect(file.entries.map(({ name }) => name)).toEqual(['B', 'D'])
  })

  test('reads back what was quoted', () => {
    const value = fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => text.replace(/\r\n?/g, '\n'))
    fc.assert(
      fc.property(value, value, (one, two) => {
        const quote = (text: string): string => `"${text.replace(/[\\"]/g, '\\$&')}"`
        expect(values(`A=${quote(one)}\nB=${quote(two)} # end`)).toEqual({ A: one, B: two })
      }),
      { seed },
    )
  })

  test('takes time in proportion to the length, whatever the quotes', () => {
    const startedMs = performance.now()
    for (const line of ['A="x\n', "A='\n", 'A="\\"\n', 'A="x"y\n', '`"\'\n'])
      parseEnvFile(line.repeat(100_000))
    expect(performance.now() - startedMs).toBeLessThan(5000)
  })
})
