import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { syncDirectory, writeNewFile } from '../../src/keysource/new-file.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-new-file-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

test('a new file is 0600 and holds the bytes', async () => {
  const path = join(directory, 'new')
  const old = process.umask(0)
  try {
    await writeNewFile(path, Buffer.from('bytes'))
  } finally {
    process.umask(old)
  }
  await syncDirectory(directory)
  expect(readFileSync(path, 'utf8')).toBe('bytes')
  expect(statSync(path).mode & 0o777).toBe(0o600)
})

test('what is there stays, and a link is not followed', async () => {
  const path = join(directory, 'old')
  writeFileSync(path, 'old')
  await expect(writeNewFile(path, Buffer.from('new'))).rejects.toMatchObject({ code: 'EEXIST' })
  expect(readFileSync(path, 'utf8')).toBe('old')
  symlinkSync('elsewhere', join(directory, 'link'))
  await expect(writeNewFile(join(directory, 'link'), Buffer.from('new'))).rejects.toMatchObject({
    code: 'EEXIST',
  })
  expect(existsSync(join(directory, 'elsewhere'))).toBe(false)
})

test('a write that fails leaves no half of a file', async () => {
  const path = join(directory, 'half')
  // No Buffer, so that the file is made and the write refused.
  await expect(writeNewFile(path, { length: 5 } as unknown as Buffer)).rejects.toThrow()
  expect(existsSync(path)).toBe(false)
})
