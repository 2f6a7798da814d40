import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { exitCodes } from '../../src/errors.ts'
import { systemdCredentialSource } from '../../src/keysource/systemd-credential.ts'

const key = Buffer.from(Array.from({ length: 32 }, (_, i) => i))

let directory: string
let path: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-credential-'))
  path = join(directory, 'master-key')
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

test('is configured only where the directory holds a credential of that name', () => {
  expect(systemdCredentialSource({})).toBeNull()
  expect(systemdCredentialSource({ CREDENTIALS_DIRECTORY: '' })).toBeNull()
  writeFileSync(join(directory, 'other'), 'x')
  expect(systemdCredentialSource({ CREDENTIALS_DIRECTORY: directory })).toBeNull()
})

test('is read whatever its mode', async () => {
  writeFileSync(path, `${key.toString('base64url')}=\n`)
  chmodSync(path, 0o444)
  const source = systemdCredentialSource({ CREDENTIALS_DIRECTORY: directory })
  expect(source).toMatchObject({ kind: 'systemd-credential', warning: null })
  expect(await source?.read()).toEqual(key)
  expect(await source?.read()).toEqual(key)
})

test('that holds no key is exit 78', async () => {
  writeFileSync(path, 'hush')
  const source = systemdCredentialSource({ CREDENTIALS_DIRECTORY: directory })
  await expect(source?.read()).rejects.toMatchObject({
    exitCode: exitCodes.config,
    message: `${path} holds no master key`,
  })
})

test('that leads nowhere is exit 77, not absent', async () => {
  symlinkSync('nowhere', path)
  const source = systemdCredentialSource({ CREDENTIALS_DIRECTORY: directory })
  await expect(source?.read()).rejects.toMatchObject({ exitCode: exitCodes.masterKey })
})

test('a directory that cannot be looked into is exit 77', () => {
  writeFileSync(path, 'x')
  expect(() => systemdCredentialSource({ CREDENTIALS_DIRECTORY: path })).toThrow(
    expect.objectContaining({ exitCode: exitCodes.masterKey }),
  )
})
