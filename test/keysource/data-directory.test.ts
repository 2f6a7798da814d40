import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { exitCodes, StartError } from '../../src/errors.ts'
import { dataDirectorySource } from '../../src/keysource/data-directory.ts'

let directory: string
let keyFile: string
let store: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-data-'))
  keyFile = join(directory, 'master.key')
  store = join(directory, 'purser.db')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const source = (env: Record<string, string> = {}) => dataDirectorySource(directory, store, env)

function refusal(env: Record<string, string> = {}): StartError {
  try {
    source(env)
  } catch (error) {
    if (error instanceof StartError) return error
    throw error
  }
  throw new Error('accepted')
}

describe('an existing master.key', () => {
  test('is read, with a store or without, under systemd too', async () => {
    writeFileSync(keyFile, 'cd'.repeat(32), { mode: 0o600 })
    expect(source()).toMatchObject({ kind: 'data-directory', describe: keyFile, warning: null })
    expect(await source().read()).toEqual(Buffer.alloc(32, 0xcd))
    writeFileSync(store, '')
    expect(await source({ STATE_DIRECTORY: directory }).read()).toEqual(Buffer.alloc(32, 0xcd))
  })

  test('is held to the rules of a key file', async () => {
    writeFileSync(keyFile, 'cd'.repeat(32))
    chmodSync(keyFile, 0o644)
    await expect(source().read()).rejects.toMatchObject({ exitCode: exitCodes.masterKey })
    writeFileSync(keyFile, '')
    chmodSync(keyFile, 0o600)
    await expect(source().read()).rejects.toMatchObject({ exitCode: exitCodes.config })
  })

  test('as a link that leads nowhere is a failing source, and nothing is generated over it', async () => {
    symlinkSync(join(directory, 'mounted'), keyFile)
    expect(source().kind).toBe('data-directory')
    await expect(source().read()).rejects.toMatchObject({ exitCode: exitCodes.masterKey })
    expect(existsSync(join(directory, 'mounted'))).toBe(false)
  })
})

describe('a generated key', () => {
  test('is on disk as it is returned, for its owner alone, and read from there ever after', async () => {
    const made = source()
    expect(made).toMatchObject({ kind: 'generated', describe: keyFile })
    expect(readdirSync(directory)).toEqual([])
    const key = await made.read()
    expect(key.buffer.byteLength).toBe(32)
    expect(readFileSync(keyFile, 'utf8')).toBe(`${key.toString('hex')}\n`)
    expect(statSync(keyFile).mode & 0o7777).toBe(0o600)
    expect(statSync(keyFile).nlink).toBe(1)
    expect(readdirSync(directory)).toEqual(['master.key'])
    expect(await made.read()).toEqual(key)
    expect(await source().read()).toEqual(key)
  })

  test('is another each time', async () => {
    const first = await source().read()
    rmSync(keyFile)
    expect(await source().read()).not.toEqual(first)
  })

  test('is not generated again by a later read', async () => {
    const made = source()
    await made.read()
    rmSync(keyFile)
    await expect(made.read()).rejects.toMatchObject({ exitCode: exitCodes.masterKey })
    expect(existsSync(keyFile)).toBe(false)
  })

  test('says how to do better', () => {
    const { warning } = source()
    expect(warning).toContain(keyFile)
    expect(warning).toContain('systemd-creds')
    expect(warning).toContain('--master-key-file')
  })

  test('is one, however many processes start at once', async () => {
    const entry = resolve(import.meta.dirname, '../../src/keysource/data-directory.ts')
    // All wait for the same moment, so that they meet.
    const code = `
      const { dataDirectorySource } = await import(process.argv[1])
      const source = dataDirectorySource(process.argv[2], process.argv[3], {})
      while (Date.now() < Number(process.argv[4])) {}
      console.log(source.kind, (await source.read()).toString('hex'))`
    const args = ['--input-type=module', '-e', code, entry, directory, store, String(Date.now() + 1_500)]
    const lines = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
        const [line] = await Promise.all([text(child.stdout), once(child, 'exit')])
        return line.trim()
      }),
    )
    expect(lines.filter((line) => line.startsWith('generated ')).length).toBeGreaterThan(1)
    expect(new Set(lines.map((line) => line.split(' ')[1])).size).toBe(1)
    expect(readFileSync(keyFile, 'utf8').trim()).toBe(lines[0]?.split(' ')[1])
    expect(readdirSync(directory)).toEqual(['master.key'])
  })
})

describe('nothing is generated', () => {
  test('where a store is there: exit 77', () => {
    writeFileSync(store, '')
    const error = refusal()
    expect(error.exitCode).toBe(exitCodes.masterKey)
    expect(error.message).toBe(`${store} is there, but no master key is configured`)
    rmSync(store)
    symlinkSync('nowhere', store)
    expect(refusal().exitCode).toBe(exitCodes.masterKey)
  })

  test.each(['CREDENTIALS_DIRECTORY', 'STATE_DIRECTORY', 'NOTIFY_SOCKET'])(
    'where systemd runs the daemon, as %s tells: exit 77',
    (variable) => {
      const error = refusal({ [variable]: '/run/x' })
      expect(error.exitCode).toBe(exitCodes.masterKey)
      expect(error.message).toContain(`${variable} is set`)
      expect(error.hint).toContain('LoadCredentialEncrypted=')
      expect(source({ [variable]: '' }).kind).toBe('generated')
    },
  )

  test('where the directory is missing or cannot be written: exit 69', async () => {
    rmSync(directory, { recursive: true })
    await expect(source().read()).rejects.toMatchObject({
      exitCode: exitCodes.storeUnusable,
      message: `no master key can be generated into ${directory} (ENOENT)`,
    })
    const sys = dataDirectorySource('/proc/self', '/proc/self/purser.db', {})
    await expect(sys.read()).rejects.toMatchObject({ exitCode: exitCodes.storeUnusable })
    mkdirSync(directory)
  })

  test('where the directory cannot be looked into: exit 69', () => {
    writeFileSync(store, '')
    expect(() => dataDirectorySource(store, join(store, 'purser.db'), {})).toThrow(
      expect.objectContaining({ exitCode: exitCodes.storeUnusable }),
    )
  })
})
