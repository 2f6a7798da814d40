import { closeSync, readSync, writeSync } from 'node:fs'
import { expect, test } from 'vitest'
import { makePipe, readVariable, takeVariable } from '../../src/keysource/libc.ts'

const name = 'PURSER_TEST_LIBC_VARIABLE'

test('a variable is read as bytes of its own, and stays', () => {
  process.env[name] = 'ünicode = value'
  const read = readVariable(name)
  expect(read?.bytes.toString()).toBe('ünicode = value')
  read?.wipe()
  expect(process.env[name]).toBe('ünicode = value')
  expect(readVariable('PURSER_TEST_LIBC_NONE')).toBeNull()
})

test('or taken, and is gone', () => {
  process.env[name] = 'value'
  expect(takeVariable(name)?.bytes.toString()).toBe('value')
  expect(process.env[name]).toBeUndefined()
  expect(takeVariable(name)).toBeNull()
  process.env[name] = ''
  expect(takeVariable(name)?.length).toBe(0)
})

test('a pipe hands bytes over and never waits', () => {
  const { readEnd, writeEnd } = makePipe()
  const into = Buffer.alloc(4)
  const again = expect.objectContaining({ code: 'EAGAIN' })
  expect(() => readSync(readEnd, into)).toThrow(again)
  writeSync(writeEnd, 'abc')
  expect(readSync(readEnd, into)).toBe(3)
  closeSync(writeEnd)
  expect(readSync(readEnd, into)).toBe(0)
  closeSync(readEnd)
})
