import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { printableKey, readTomlFile } from '../../src/config/toml-file.ts'
import { exitCodes, StartError } from '../../src/errors.ts'

const seed = process.env['PURSER_TEST_SEED']
const runs = seed === undefined ? { numRuns: 300 } : { numRuns: 300, seed: Number(seed) }

let directory: string
let path: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-toml-'))
  path = join(directory, 'purser.toml')
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

function read(text: string | Buffer) {
  writeFileSync(path, text)
  return readTomlFile(path, true)
}

function refusal(at: string, required = true): StartError {
  try {
    readTomlFile(at, required)
  } catch (error) {
    if (error instanceof StartError) return error
    throw error
  }
  throw new Error(`accepted: ${at}`)
}

describe('leaves', () => {
  test('dotted keys, tables and inline tables give the same paths', () => {
    const expected = [
      { path: ['cache', 'ttl_seconds'], value: 5 },
      { path: ['cache', 'max_entries'], value: 6 },
    ]
    expect(read('cache.ttl_seconds = 5\ncache.max_entries = 6').leaves).toEqual(expected)
    expect(read('[cache]\nttl_seconds = 5\n"max_entries" = 6').leaves).toEqual(expected)
    expect(read('cache = { ttl_seconds = 5, max_entries = 6 }').leaves).toEqual(expected)
  })

  test('a quoted dot is part of a name', () => {
    const [leaf] = read('"cache.ttl_seconds" = 5').leaves
    expect(leaf?.path).toEqual(['cache.ttl_seconds'])
    expect(printableKey(leaf?.path ?? [])).toBe('"cache.ttl_seconds"')
  })

  test('names of Object.prototype are names like any other', () => {
    const paths = read('__proto__ = 1\nconstructor.x = 2').leaves.map((leaf) => leaf.path)
    expect(paths).toEqual([['__proto__'], ['constructor', 'x']])
  })

  test('deep nesting ends in a leaf instead of a deep recursion', () => {
    const [leaf] = read(`${Array.from({ length: 5_000 }, () => 'a').join('.')} = 1`).leaves
    expect(leaf?.path).toHaveLength(5)
  })

  test('a printed key is bounded and one line', () => {
    expect(printableKey(['a\nb', 'x'.repeat(200)])).toMatch(/^"a\\nb"\.x+\.\.\.$/)
    expect(printableKey(['x'.repeat(200)]).length).toBeLessThanOrEqual(120)
  })
})

describe('lines', () => {
  test.each<[string, string, string[], number]>([
    ['a dotted key', 'a = 1\n\nb.c = 2\nb.d = 3', ['b', 'd'], 4],
    ['a key in a table', '[b]\n# d = 1\nc = 2\nd = 3', ['b', 'd'], 4],
    ['a table', 'a = 1\n[b]\nc = 2', ['b'], 2],
    ['a table of a dotted name', '[x]\n[b.c]\nd = 2', ['b', 'c'], 2],
    ['a spaced, quoted key', 'a = 1\n  "b" . \'c\' = 2', ['b', 'c'], 2],
    ['a member of an inline table', 'a = 1\nb = { c = 2, d = 3 }', ['b', 'd'], 2],
    [
      'a multi-line string begins where its key stands',
      'a = """\nb.c = 1\n"""\nb.c = """\n\n"""',
      ['b', 'c'],
      4,
    ],
    ['a multi-line array', 'a = [\n1, # ]\n2\n]\nb = [\n3\n]', ['b'], 5],
    ['an array of tables', 'a = 1\n[[b]]\nc = 1', ['b'], 2],
    ['an implicit table', '\n[b.c]\nd = 1', ['b'], 2],
    ['a mention in a comment', '# b = 1\nb = 1', ['b'], 2],
    ['a mention in a string', 'a = "\\nb = 1"\nb = 1', ['b'], 2],
    ['a byte order mark', '\uFEFFa = 1\nb = 1', ['b'], 2],
  ])('%s', (_, text, key, line) => {
    expect(read(text).lineOf(key)).toBe(line)
    expect(read(text.replaceAll('\n', '\r\n')).lineOf(key)).toBe(line)
  })

  test('of every statement in a file made at random', () => {
    const before = fc.constantFrom('', '# n = 1\n', '\n', ' \t\n', '# """\n', "# [x]\n\n# '''\n")
    const form = fc.constantFrom<(name: string) => { text: string; key: string[] }>(
      (name) => ({ text: `${name} = 1`, key: [name] }),
      (name) => ({ text: `${name}.x.y = "#"  # z`, key: [name, 'x', 'y'] }),
      (name) => ({ text: `${name} = """\n${name}2 = 1\n[t]\n"""`, key: [name] }),
      (name) => ({ text: `${name} = '''\n"""'''`, key: [name] }),
      (name) => ({ text: `${name} = [\n  [1, "]"], # [\n\n  2,\n]`, key: [name] }),
      (name) => ({ text: `"${name}" = { a = { "b.c" = '}' } }`, key: [name, 'a', 'b.c'] }),
    )
    const tables = fc.constantFrom<(name: string) => string>(
      (name) => `[${name}]`,
      (name) => `[ ${name} . "q" ] # t`,
    )
    const statement = fc.record({ before, form })
    const section = fc.record({ table: tables, statements: fc.array(statement, { maxLength: 6 }) })
    fc.assert(
      fc.property(fc.array(section, { minLength: 1, maxLength: 5 }), fc.boolean(), (sections, crlf) => {
        let text = ''
        const expected: { key: string[]; line: number }[] = []
        const nextLine = () => text.split('\n').length
        sections.forEach(({ table, statements }, s) => {
          const header = table(`t${s}`)
          const prefix = header.includes('q') ? [`t${s}`, 'q'] : [`t${s}`]
          expected.push({ key: prefix, line: nextLine() })
          text += `${header}\n`
          statements.forEach((made, k) => {
            text += made.before
            const { text: body, key } = made.form(`k${k}`)
            expected.push({ key: [...prefix, ...key], line: nextLine() })
            text += `${body}\n`
          })
        })
        const file = read(crlf ? text.replaceAll('\n', '\r\n') : text)
        for (const { key, line } of expected) expect([key, file.lineOf(key)]).toEqual([key, line])
      }),
      runs,
    )
  })

  test('are found quickly in the largest file', () => {
    const file = read(`${'#\n'.repeat(32_000)}\nz = 1`)
    const start = performance.now()
    expect(file.lineOf(['z'])).toBe(32_002)
    expect(performance.now() - start).toBeLessThan(1_000)
  })
})

describe('refused with exit 78', () => {
  test('what is no TOML, naming the line and not the text', () => {
    writeFileSync(path, 'a = 1\n\nb = hush-hush\n')
    const error = refusal(path)
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toContain(`line 3 of ${path} is not valid TOML`)
    expect(error.message).not.toContain('\n')
    expect(error.message).not.toContain('hush')
  })

  test('a key given twice', () => {
    writeFileSync(path, 'a = 1\na = 2\n')
    expect(refusal(path).message).toContain(`line 2 of ${path}`)
  })

  test.each<[string, string | Buffer]>([
    ['is not UTF-8', Buffer.from([0x61, 0x20, 0x3d, 0x20, 0x22, 0xff, 0x22])],
    ['is larger than 65536 bytes', '#'.repeat(65_537)],
  ])('a file that %s', (problem, text) => {
    writeFileSync(path, text)
    const error = refusal(path)
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toBe(`the settings file ${path} ${problem}`)
  })

  test('a file of exactly the bound is read', () => {
    expect(read(`#${' '.repeat(65_535)}`).leaves).toEqual([])
  })

  test('a missing file where it is required', () => {
    const error = refusal(join(directory, 'none.toml'))
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toContain('does not exist')
  })

  test('a directory, and a FIFO without a writer, which would hang the start', () => {
    const folder = join(directory, 'folder')
    mkdirSync(folder)
    expect(refusal(folder).message).toContain('is not a regular file')
    const fifo = join(directory, 'fifo')
    execFileSync('mkfifo', [fifo])
    expect(refusal(fifo, false).message).toContain('is not a regular file')
  })

  test('a link that leads to itself', () => {
    const loop = join(directory, 'loop')
    symlinkSync(loop, loop)
    expect(refusal(loop, false).message).toContain('cannot be read (ELOOP)')
  })
})

test('an absent file has no leaves where it is not required', () => {
  expect(readTomlFile(join(directory, 'none.toml'), false)).toMatchObject({ present: false, leaves: [] })
})

test('/dev/null stands for no settings', () => {
  expect(readTomlFile('/dev/null', true)).toMatchObject({ present: true, leaves: [], warning: null })
})

test('a file that anybody may write is warned of', () => {
  expect(read('').warning).toBeNull()
  chmodSync(path, 0o666)
  expect(readTomlFile(path, true).warning).toContain(`${path} can be changed by other users`)
  chmodSync(path, 0o600)
})
