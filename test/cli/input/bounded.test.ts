import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { decodeText, readBounded, readFileBounded, systemReason } from '../../../src/cli/input/bounded.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-cli-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

describe('readFileBounded', () => {
  test('reads up to the bound and no further', async () => {
    const path = join(directory, 'file')
    writeFileSync(path, 'abcd')
    expect((await readFileBounded(path, 4)).toString()).toBe('abcd')
    await expect(readFileBounded(path, 3)).rejects.toThrow('more than 3 bytes')
  })

  test.each([
    ['/dev/zero', 'not a regular file'],
    ['/nonexistent/file', 'no such file or directory'],
    ['/', 'not a regular file'],
  ])('%s: %s', async (path, message) => {
    await expect(readFileBounded(path, 10)).rejects.toThrow(message)
  })
})

test('readBounded stops at the bound', async () => {
  const stream = (): Readable => Readable.from([Buffer.from('ab'), Buffer.from('cd')])
  expect((await readBounded(stream(), 4, 'stdin')).toString()).toBe('abcd')
  await expect(readBounded(stream(), 3, 'stdin')).rejects.toThrow('stdin holds more than 3 bytes')
})

test('decodeText refuses what is not UTF-8 and drops a byte order mark', () => {
  expect(decodeText(Buffer.from('\ufeffA=é'), 'x')).toBe('A=é')
  expect(() => decodeText(Buffer.from([0xff, 0xfe]), 'x')).toThrow('x is not UTF-8 text')
})

test('systemReason says it in words, or by the code', () => {
  expect(systemReason(Object.assign(new Error('x'), { code: 'EACCES' }))).toBe('permission denied')
  expect(systemReason(Object.assign(new Error('x'), { code: 'EWEIRD' }))).toBe('EWEIRD')
  expect(systemReason('x')).toBe('unknown error')
})
