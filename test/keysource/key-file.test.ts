import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { exitCodes, StartError } from '../../src/errors.ts'
import { isThere, type KeyFileCheck, readKeyFile } from '../../src/keysource/key-file.ts'
import { skipWith } from '../support/skip.ts'

const root = process.getuid?.() === 0
const key = Buffer.from(Array.from({ length: 32 }, (_, i) => 255 - i))

let directory: string
let path: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-key-'))
  path = join(directory, 'key')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

function put(text: string | Buffer, mode = 0o600): void {
  writeFileSync(path, text)
  chmodSync(path, mode)
}

async function refusal(at: string, check: KeyFileCheck = 'owner-and-mode'): Promise<StartError> {
  const error = await readKeyFile(at, check).catch((reason: unknown) => reason)
  if (error instanceof StartError) return error
  throw error instanceof Error ? error : new Error('accepted')
}

describe('a key file', () => {
  test.each([0o600, 0o400, 0o640, 0o440, 0o700, 0o750])('of mode %o is read', async (mode) => {
    put(`${key.toString('base64')}\n`, mode)
    expect(await readKeyFile(path, 'owner-and-mode')).toEqual(key)
  })

  test.each([0o604, 0o602, 0o601, 0o620, 0o660, 0o644, 0o666, 0o777, 0o670])(
    'of mode %o is exit 77',
    async (mode) => {
      put(key.toString('hex'), mode)
      const error = await refusal(path)
      expect(error.exitCode).toBe(exitCodes.masterKey)
      expect(error.message).toBe(`the key file ${path} is open to others (mode 0${mode.toString(8)})`)
    },
  )

  test('may be a link; owner and mode are those of what it leads to', async () => {
    put(key.toString('hex'))
    const link = join(directory, 'link')
    symlinkSync('key', link)
    expect(await readKeyFile(link, 'owner-and-mode')).toEqual(key)
    chmodSync(path, 0o644)
    expect((await refusal(link)).message).toContain('is open to others (mode 0644)')
  })

  test.each<[string, () => string, string]>([
    ['missing', () => join(directory, 'none'), 'does not exist'],
    ['below a file', () => join(path, 'none'), 'cannot be opened (ENOTDIR)'],
    [
      'a dangling link',
      () => {
        symlinkSync('nowhere', join(directory, 'dangling'))
        return join(directory, 'dangling')
      },
      'does not exist',
    ],
    [
      'a directory',
      () => {
        mkdirSync(join(directory, 'folder'), 0o700)
        return join(directory, 'folder')
      },
      'is not a regular file',
    ],
    [
      'a FIFO without a writer',
      () => {
        execFileSync('mkfifo', ['-m', '600', join(directory, 'fifo')])
        return join(directory, 'fifo')
      },
      'is not a regular file',
    ],
    ['a device', () => '/dev/zero', 'is not a regular file'],
  ])('that is %s is exit 77', async (_, make, problem) => {
    put('x')
    const error = await refusal(make())
    expect(error.exitCode).toBe(exitCodes.masterKey)
    expect(error.message).toContain(problem)
    expect(error.hint).not.toBe('')
  })

  test.each<[string, string]>([
    ['empty', ''],
    ['no key', 'hush-hush-this-is-some-other-secret-of-43-chars'],
    ['a key and more', `${key.toString('hex')} x`],
    ['larger than any key', `${key.toString('hex')}${' '.repeat(5_000)}`],
  ])('that is %s is exit 78, and its text is not repeated', async (_, text) => {
    put(text)
    const error = await refusal(path)
    expect(error.exitCode).toBe(exitCodes.config)
    expect(error.message).toBe(`${path} holds no master key`)
    expect(`${error.message} ${error.hint}`).not.toContain('hush')
  })

  test('with white space up to the bound is read', async () => {
    put(`${key.toString('hex')}${' '.repeat(4_096 - 64)}`)
    expect(await readKeyFile(path, 'owner-and-mode')).toEqual(key)
  })

  test('the mode is not checked where the caller says so, the kind of file is', async () => {
    put(key.toString('hex'), 0o644)
    expect(await readKeyFile(path, 'none')).toEqual(key)
    expect((await refusal('/dev/zero', 'none')).message).toContain('is not a regular file')
  })

  test('leaves no file open', async () => {
    put('no key')
    for (let i = 0; i < 5; i += 1) await refusal(path)
    const open = readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return null
      }
    })
    expect(open).not.toContain(path)
  })
})

describe('the owner of a key file', () => {
  const other = 4_123_456
  const entry = resolve(import.meta.dirname, '../../src/keysource/key-file.ts')

  /** What another uid is told, or null where this machine cannot try. */
  function readAs(uid: number, gid: number): string | null {
    const code = `
      const { readKeyFile } = await import(process.argv[1])
      try { console.log((await readKeyFile(process.argv[2], 'owner-and-mode')).toString('hex')) }
      catch (error) { console.log(error.exitCode, error.message) }`
    const args = ['--input-type=module', '-e', code, entry, path]
    const result = spawnSync(process.execPath, args, { uid, gid, encoding: 'utf8', cwd: '/' })
    return result.stdout === null || /EACCES|ERR_MODULE_NOT_FOUND/.test(result.stderr)
      ? null
      : result.stdout.trim()
  }

  const needs = 'needs root, and a source tree that another uid can read'

  test('another uid than root or the daemon is exit 77', async (context) => {
    if (!root) return skipWith(context.skip, 'needs root')
    put(key.toString('hex'))
    chownSync(path, other, 0)
    const error = await refusal(path)
    expect(error.exitCode).toBe(exitCodes.masterKey)
    expect(error.message).toBe(`the key file ${path} belongs to uid ${other}`)
  })

  test('the daemon itself, or root who lets its group read, is fine', (context) => {
    if (!root) return skipWith(context.skip, needs)
    chmodSync(directory, 0o711)
    put(key.toString('hex'))
    chownSync(path, other, other)
    const own = readAs(other, other)
    if (own === null) return skipWith(context.skip, needs)
    expect(own).toBe(key.toString('hex'))
    chownSync(path, 0, other)
    chmodSync(path, 0o640)
    expect(readAs(other, other)).toBe(key.toString('hex'))
  })

  test('a third uid, and a file that the daemon cannot read, are exit 77', (context) => {
    if (!root) return skipWith(context.skip, needs)
    chmodSync(directory, 0o711)
    put(key.toString('hex'), 0o440)
    chownSync(path, other + 1, other)
    const third = readAs(other, other)
    if (third === null) return skipWith(context.skip, needs)
    expect(third).toBe(`77 the key file ${path} belongs to uid ${other + 1}`)
    chownSync(path, 0, 0)
    expect(readAs(other, other)).toBe(`77 the key file ${path} cannot be opened (EACCES)`)
  })
})

describe('isThere', () => {
  test('a file and a dangling link are there, a missing one is not', () => {
    put('x')
    symlinkSync('nowhere', join(directory, 'dangling'))
    expect(isThere(path, 'masterKey')).toBe(true)
    expect(isThere(join(directory, 'dangling'), 'masterKey')).toBe(true)
    expect(isThere(join(directory, 'none'), 'masterKey')).toBe(false)
  })

  test('what cannot be looked at is a refusal with the exit code asked for', () => {
    put('x')
    for (const exit of ['masterKey', 'storeUnusable'] as const) {
      expect(() => isThere(join(path, 'below'), exit)).toThrow(
        expect.objectContaining({
          exitCode: exitCodes[exit],
          message: expect.stringContaining('cannot be looked at (ENOTDIR)'),
        }),
      )
    }
  })
})
