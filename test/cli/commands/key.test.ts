import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseMasterKey } from '../../../src/keysource/parse-key.ts'
import { keyIdOf } from '../../../src/vault/keyring.ts'
import { noPty, runOnPty } from '../on-terminal.ts'
import { runCli } from '../run-cli.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-key-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

describe('purser key new', () => {
  test('prints a key and nothing else on stdout, its id on stderr', async () => {
    const [one, other] = await Promise.all([runCli(['key', 'new']), runCli(['key', 'new'])])
    expect(one.code).toBe(0)
    expect(one.stdout).toMatch(/^[A-Za-z0-9+/]{43}=\n$/)
    const made = parseMasterKey(Buffer.from(one.stdout))
    expect(one.stderr).toBe(`purser: key id ${keyIdOf(made!)}\n`)
    expect(other.stdout).not.toBe(one.stdout)
  })

  test('or puts it into a new file, 0600 whatever the umask, and not over another', async () => {
    const path = join(directory, 'new.key')
    const made = await runCli(['key', 'new', '--out', path])
    expect(made).toMatchObject({ code: 0, stderr: '' })
    const text = readFileSync(path, 'utf8')
    expect(text).toMatch(/^[A-Za-z0-9+/]{43}=\n$/)
    expect(made.stdout).toBe(`made ${path} (0600), key id ${keyIdOf(parseMasterKey(Buffer.from(text))!)}\n`)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    symlinkSync('nowhere', join(directory, 'dangling'))
    for (const taken of [path, join(directory, 'dangling'), join(directory, 'no', 'directory')]) {
      const refused = await runCli(['key', 'new', '--out', taken])
      expect(refused).toMatchObject({ code: 73, stdout: '' })
    }
    expect(readFileSync(path, 'utf8')).toBe(text)
    expect(existsSync(join(directory, 'nowhere'))).toBe(false)
  })

  test('as JSON', async () => {
    const made = JSON.parse((await runCli(['key', 'new', '--json'])).stdout) as { keyId: string; key: string }
    expect(keyIdOf(parseMasterKey(Buffer.from(made.key))!)).toBe(made.keyId)
  })

  test.skipIf(noPty !== null)('on a terminal it says what the scrollback keeps', async () => {
    expect((await runOnPty(['key', 'new'], [])).output).toContain('the key stays in the scrollback')
  })
})
