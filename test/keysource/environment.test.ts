import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, expect, test } from 'vitest'
import { exitCodes } from '../../src/errors.ts'
import { environmentSource } from '../../src/keysource/environment.ts'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { skipWith } from '../support/skip.ts'

const entry = resolve(import.meta.dirname, '../../src/keysource/environment.ts')

/** Runs `code` in a child with `env`, hands its first line and its pid to `look`, then lets it end. */
async function inChild<T>(
  code: string,
  env: Record<string, string>,
  look: (line: string, pid: number) => T,
): Promise<T> {
  const script = `const { takeEnvironmentKey, environmentSource } = await import(process.argv[1]); ${code}; process.stdin.resume()`
  const args = ['--expose-gc', '--input-type=module', '-e', script, entry]
  const child = spawn(process.execPath, args, { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const exit = once(child, 'exit')
  try {
    const [line] = (await Promise.race([once(createInterface(child.stdout), 'line'), exit])) as [unknown]
    return look(String(line), child.pid ?? 0)
  } finally {
    child.stdin.end()
    await exit
  }
}

/** How often `needle` lies in the private writable memory of a process. */
function countInMemory(pid: number, needle: Buffer): number {
  const regions = readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => / rw-p /.test(line))
  const fd = openSync(`/proc/${pid}/mem`, 'r')
  let count = 0
  try {
    for (const region of regions) {
      const [start, end] = region
        .split(' ', 1)[0]!
        .split('-')
        .map((text) => BigInt(`0x${text}`))
      const bytes = Buffer.alloc(Number(end! - start!))
      try {
        readSync(fd, bytes, 0, bytes.length, start!)
      } catch {
        continue
      }
      for (let at = bytes.indexOf(needle); at !== -1; at = bytes.indexOf(needle, at + 1)) count += 1
    }
  } finally {
    closeSync(fd)
  }
  return count
}

describe('taken from the environment of a real process', () => {
  const secret = randomBytes(32)
  const text = secret.toString('base64')

  test('it is the key, and nothing of it is left where it was', async () => {
    const code = `
      const taken = takeEnvironmentKey()
      const key = await environmentSource(taken).read()
      console.log(JSON.stringify([key.toString('hex'), 'MASTER_ENCRYPTION_KEY' in process.env, takeEnvironmentKey(), process.env.AFTER]))`
    const env = { BEFORE: 'b', MASTER_ENCRYPTION_KEY: text, AFTER: 'a' }
    await inChild(code, env, (line, pid) => {
      expect(JSON.parse(line)).toEqual([secret.toString('hex'), false, null, 'a'])
      const environ = readFileSync(`/proc/${pid}/environ`, 'latin1')
      expect(environ).not.toContain(text.slice(4, 16))
      expect(environ).toBe(`BEFORE=b\0MASTER_ENCRYPTION_KEY=${'\0'.repeat(text.length)}\0AFTER=a\0`)
    })
  })

  test('no piece of its text is in the memory of the process once it is read', async (context) => {
    const code = `
      const key = await environmentSource(takeEnvironmentKey()).read()
      Object.keys(process.env)
      gc()
      console.log('done')`
    const needles = [text.slice(0, 20), text.slice(22, 42)].map((piece) => Buffer.from(piece))
    // The control: the same look at a process that reads the variable the usual way must find it.
    const control = `const key = process.env.MASTER_ENCRYPTION_KEY; console.log('done')`
    const look = (_: string, pid: number) => needles.map((needle) => countInMemory(pid, needle))
    const env = { MASTER_ENCRYPTION_KEY: text }
    const found = await inChild(control, env, look).catch((error: NodeJS.ErrnoException) => error)
    if (found instanceof Error)
      return skipWith(context.skip, `cannot look into another process: ${found.message}`)
    expect(Math.min(...found)).toBeGreaterThan(0)
    expect(await inChild(code, env, look)).toEqual([0, 0])
  })

  test('absent is null, empty is taken as something that is no key', async () => {
    const code = `
      const taken = takeEnvironmentKey()
      if (taken === null) console.log('null')
      else console.log(await environmentSource(taken).read().catch((error) => error.exitCode))`
    expect(await inChild(code, {}, (line) => line)).toBe('null')
    expect(await inChild(code, { MASTER_ENCRYPTION_KEY: '' }, (line) => line)).toBe('78')
    expect(await inChild(code, { MASTER_ENCRYPTION_KEY: 'x'.repeat(100_000) }, (line) => line)).toBe('78')
  })
})

describe('the source', () => {
  const taken = (text: string) => new SecretBytes(offHeapCopy(Buffer.from(text)))

  test('reads once, and wipes what was taken', async () => {
    const secret = taken(` ${'ab'.repeat(32)}\n`)
    const source = environmentSource(secret)
    expect(source).toMatchObject({ kind: 'environment', describe: 'MASTER_ENCRYPTION_KEY' })
    expect(await source.read()).toEqual(Buffer.alloc(32, 0xab))
    expect(secret.bytes.every((byte) => byte === 0)).toBe(true)
    await expect(source.read()).rejects.toMatchObject({ exitCode: exitCodes.masterKey })
  })

  test('what is no key is exit 78, wiped, and not repeated', async () => {
    const secret = taken('hush-hush')
    const error = await environmentSource(secret)
      .read()
      .catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      exitCode: exitCodes.config,
      message: 'MASTER_ENCRYPTION_KEY holds no master key',
    })
    expect(String(error)).not.toContain('hush')
    expect(secret.bytes.every((byte) => byte === 0)).toBe(true)
  })

  test('says how to do better', () => {
    const { warning } = environmentSource(taken('x'))
    expect(warning).toContain('systemd-creds')
    expect(warning).toContain('--master-key-file')
  })
})
