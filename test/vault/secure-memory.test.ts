import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { secureAlloc, secureAllocations, secureCopy, secureFree } from '../../src/vault/secure-memory.ts'
import { thrown } from './support.ts'

describe('secureAlloc', () => {
  test('gives zeroed memory of its own', () => {
    const buffer = secureAlloc(100)
    expect(buffer.equals(Buffer.alloc(100))).toBe(true)
    expect(buffer.buffer.byteLength).toBe(100)
    secureFree(buffer)
  })

  test.each([0, -1, 1.5, Number.NaN, 262_145, 2 ** 40])('refuses %d bytes', (length) => {
    expect(() => secureAlloc(length)).toThrow(RangeError)
  })

  test('is Overloaded before the kernel has no mapping left, which would abort the process', async () => {
    const buffers: Buffer[] = []
    const error = thrown(() => {
      for (let count = 0; count < 20_000; count++) buffers.push(secureAlloc(32))
    })
    expect(error).toMatchObject({ type: 'Overloaded' })
    for (const buffer of buffers) secureFree(buffer)
    expect(() => secureAlloc(32)).toThrow('too busy')
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    expect(secureAllocations()).toBeLessThan(10)
    secureFree(secureAlloc(32))
  })
})

describe('secureFree', () => {
  test('takes the bytes from every view, and again does nothing', () => {
    const buffer = secureCopy(Buffer.from('a secret'))
    const view = buffer.subarray(2, 8)
    expect(view.toString()).toBe('secret')
    secureFree(buffer)
    secureFree(buffer)
    expect([buffer.length, view.length]).toEqual([0, 0])
  })
})

describe('secureMemoryIsLocked', () => {
  /** As a user without CAP_IPC_LOCK, whom the limit binds. */
  function lockedUnderLimit(kib: number, bytes: number): string {
    const script = `import('./src/vault/secure-memory.ts').then((m) => console.log(m.secureMemoryIsLocked(${bytes})))`
    const dropCapability = process.getuid?.() === 0 ? 'setpriv --bounding-set=-ipc_lock' : ''
    const command = `ulimit -l ${kib}; exec ${dropCapability} "$0" -e "$1"`
    return execFileSync('/bin/sh', ['-c', command, process.execPath, script], { encoding: 'utf8' }).trim()
  }

  test('tells what the kernel locks from what it only hands out', () => {
    expect(lockedUnderLimit(64, 4096)).toBe('true')
    expect(lockedUnderLimit(64, 1_000_000)).toBe('false')
    expect(lockedUnderLimit(0, 4096)).toBe('false')
  })
})
