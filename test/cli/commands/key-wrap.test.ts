import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { keyIdOf } from '../../../src/vault/keyring.ts'
import { KmsServer } from '../../keysource/support/kms-server.ts'
import { VaultServer } from '../../keysource/support/vault-server.ts'
import { skipWith } from '../../support/skip.ts'
import { noPty, runOnPty } from '../on-terminal.ts'
import { cliEntry, runCli } from '../run-cli.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-key-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const key = Buffer.from(Array.from({ length: 32 }, (_, i) => 200 - i))
const keyId = keyIdOf(key)

function keyFile(): string {
  const path = join(directory, 'given.key')
  writeFileSync(path, `${key.toString('base64')}\n`, { mode: 0o600 })
  return path
}

describe('purser key wrap', () => {
  test('takes the key from a file or stdin, never from the command line', async () => {
    for (const args of [
      ['key', 'wrap', 'kms', '--key-id', 'x', '--key', key.toString('base64')],
      ['key', 'wrap', 'kms', '--key-id', 'x', key.toString('base64')],
      ['key', 'wrap', 'kms', '--key-id', 'x', `--master-key=${key.toString('hex')}`],
    ]) {
      const refused = await runCli(args)
      expect(refused).toMatchObject({ code: 64, stdout: '' })
      expect(refused.stderr).not.toMatch(/yMfGx|c8c7c6/)
    }
  })

  test.each([
    ['nothing', [], '', 65, 'stdin holds no master key'],
    ['no key', [], 'hush-hush', 65, 'stdin holds no master key'],
    ['too much', [], 'h'.repeat(5000), 65, 'stdin holds more than 4096 bytes'],
    ['a missing file', ['--key-file', '/nonexistent/key'], '', 66, 'does not exist'],
  ])('%s is refused before anybody is asked', async (_, args, input, code, message) => {
    const refused = await runCli(['key', 'wrap', 'kms', '--key-id', 'x', ...args], { input })
    expect(refused).toMatchObject({ code, stdout: '' })
    expect(refused.stderr).toContain(message)
    expect(refused.stderr).not.toContain('hush')
  })

  test('a key file that others can read is refused', async () => {
    const path = join(directory, 'open.key')
    writeFileSync(path, key.toString('hex'))
    chmodSync(path, 0o644)
    const refused = await runCli(['key', 'wrap', 'vault', '--key-file', path])
    expect(refused.code).toBe(66)
    expect(refused.stderr).toContain('is open to others (mode 0644)')
  })

  describe('kms', () => {
    let kms: KmsServer
    beforeAll(async () => {
      kms = await KmsServer.start()
    })
    afterAll(() => kms.close())

    test('prints what the daemon takes', async () => {
      const args = ['key', 'wrap', 'kms', '--key-file', keyFile()]
      const wrapped = await runCli(args, { env: { ...kms.env, AWS_KMS_KEY_ID: kms.createKey() } })
      expect(wrapped).toMatchObject({ code: 0, stderr: `purser: key id ${keyId}\n` })
      const env = { ...kms.env, ENCRYPTED_MASTER_KEY: wrapped.stdout.trim(), PURSER_DATA_DIR: directory }
      const checked = await runCli(['--json', 'key', 'check'], { env })
      expect(JSON.parse(checked.stdout)).toMatchObject({ source: { kind: 'aws-kms' }, keyId })
      const sent = kms.requests[0]
      expect(sent).toMatchObject({
        target: 'TrentService.Encrypt',
        body: { Plaintext: key.toString('base64') },
      })
      expect(Object.keys(sent!.body).sort()).toEqual(['KeyId', 'Plaintext'])
    })

    test('from stdin, as JSON', async () => {
      const args = ['key', 'wrap', 'kms', '--key-id', kms.createKey(), '--json']
      const wrapped = await runCli(args, { env: kms.env, input: `${key.toString('base64url')}\n` })
      expect(JSON.parse(wrapped.stdout)).toMatchObject({ keyId, encryptedMasterKey: expect.any(String) })
    })

    test('says why not', async () => {
      const args = ['key', 'wrap', 'kms', '--key-file', keyFile()]
      expect(await runCli(args, { env: kms.env })).toMatchObject({ code: 64 })
      const unknown = await runCli([...args, '--key-id', '00'], { env: kms.env })
      expect(unknown.code).toBe(1)
      expect(unknown.stderr).toContain('nothing was wrapped: it answered NotFoundException (400)')
      const inTheClear = { ...kms.env, AWS_ENDPOINT_URL: 'http://kms.example' }
      expect(await runCli([...args, '--key-id', '00'], { env: inTheClear })).toMatchObject({ code: 64 })
    })
  })

  describe('vault', () => {
    let vault: VaultServer
    beforeAll(async () => {
      vault = await VaultServer.start()
    })
    afterAll(() => vault.close())

    test('stores what the daemon reads, and replaces nothing unless it is told to', async () => {
      const env = { VAULT_ADDR: vault.address, VAULT_TOKEN: vault.createToken('write') }
      const args = ['key', 'wrap', 'vault', '--key-file', keyFile()]
      expect(await runCli(args, { env })).toMatchObject({
        code: 0,
        stdout: `stored key ${keyId} as version 1\n`,
      })
      const again = await runCli(args, { env })
      expect(again.code).toBe(1)
      expect(again.stderr).toMatch(/exists already \(400\)\nhint: add --replace/)
      expect(await runCli([...args, '--replace'], { env })).toMatchObject({ code: 0 })
      const checked = await runCli(['--json', 'key', 'check', '--data-dir', directory], { env })
      expect(JSON.parse(checked.stdout)).toMatchObject({ source: { kind: 'vault' }, keyId })
    })

    test('says why not', async () => {
      const args = ['key', 'wrap', 'vault', '--key-file', keyFile()]
      const at = { VAULT_ADDR: vault.address }
      expect(await runCli(args, { env: at })).toMatchObject({ code: 64 })
      const denied = await runCli(args, { env: { ...at, VAULT_TOKEN: vault.createToken() } })
      expect(denied.code).toBe(1)
      expect(denied.stderr).toContain('nothing was wrapped: it refused access to secret/data/')
    })
  })

  describe('systemd-creds', () => {
    /** A stand-in that shows its arguments and reads its stdin. */
    function fakeTool(script: string): string {
      const bin = mkdtempSync(join(directory, 'bin-'))
      writeFileSync(join(bin, 'systemd-creds'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
      return `${bin}:/usr/bin:/bin`
    }

    test('runs it with the key on its stdin', async () => {
      const out = join(directory, 'fake.cred')
      const PATH = fakeTool('echo "$@" | base64 -w0; printf . ; base64 -w0; echo')
      const args = ['key', 'wrap', 'systemd-creds', '--key-file', keyFile(), '--with-key', 'host']
      const shown = await runCli(args, { env: { PATH } })
      expect(shown).toMatchObject({ code: 0, stderr: `purser: key id ${keyId}\n` })
      const [given = '', text = ''] = shown.stdout
        .split('.')
        .map((part) => Buffer.from(part, 'base64').toString())
      expect(given).toBe('encrypt --name=master-key --with-key=host - -\n')
      expect(text).toBe(key.toString('base64'))
      const kept = await runCli([...args, '--out', out], { env: { PATH } })
      expect(kept).toMatchObject({ code: 0, stdout: `made ${out} (0600), key id ${keyId}\n` })
      expect(readFileSync(out, 'utf8')).toBe(shown.stdout)
      expect(statSync(out).mode & 0o777).toBe(0o600)
      expect(await runCli([...args, '--out', out], { env: { PATH } })).toMatchObject({ code: 73 })
    })

    test.each([
      ['that fails', 'echo "no luck" >&2; exit 1', 1, 'systemd-creds failed (1)'],
      ['that gives something and fails', 'cat; exit 3', 1, 'systemd-creds failed (3)'],
      ['that gives nothing', 'cat >/dev/null', 1, 'systemd-creds failed (0)'],
      ['that does not read', 'exit 2', 1, 'systemd-creds failed (2)'],
      ['that talks without end', 'yes', 65, 'systemd-creds holds more than'],
    ])('one %s is said so', async (_, script, code, message) => {
      const args = ['key', 'wrap', 'systemd-creds', '--key-file', keyFile()]
      const failed = await runCli(args, { env: { PATH: fakeTool(script) } })
      expect(failed).toMatchObject({ code, stdout: '' })
      expect(failed.stderr).toContain(message)
    })

    test('none is 127', async () => {
      const bin = mkdtempSync(join(directory, 'empty-'))
      const args = ['key', 'wrap', 'systemd-creds', '--key-file', keyFile()]
      expect(await runCli(args, { env: { PATH: bin } })).toMatchObject({ code: 127 })
    })

    test('the real one makes what it can decrypt by that name', (context) => {
      // It makes a host key in /var/lib/systemd where there is none: here in a mount namespace that goes away with it.
      const library = mkdtempSync(join(directory, 'var-lib-'))
      const inNamespace = (command: string) =>
        spawnSync(
          'unshare',
          [
            '-m',
            '--propagation',
            'private',
            'sh',
            '-c',
            `mount --bind '${library}' /var/lib/systemd && ${command}`,
          ],
          { encoding: 'utf8' },
        )
      const probe = inNamespace('printf x | systemd-creds encrypt --name=x - - >/dev/null')
      if (probe.error !== undefined || probe.status !== 0) {
        const reason = `systemd-creds does not work here, or no mount namespace can be made: ${probe.stderr}`
        return skipWith(context.skip, reason)
      }
      const out = join(directory, 'real.cred')
      const wrap = `'${process.execPath}' '${cliEntry}' key wrap systemd-creds --key-file '${keyFile()}' --out '${out}'`
      const made = inNamespace(
        `${wrap} && systemd-creds decrypt --name=master-key '${out}' - && ! systemd-creds decrypt --name=other '${out}' -`,
      )
      expect(made.stdout).toBe(`made ${out} (0600), key id ${keyId}\n${key.toString('base64')}`)
      expect(made.status).toBe(0)
    })
  })

  test.skipIf(noPty !== null)('asks on a terminal without showing what is typed', async () => {
    const text = key.toString('hex')
    const result = await runOnPty(['key', 'wrap', 'vault'], [['Master key (not shown):', `${text}\r`]], {
      VAULT_ADDR: 'http://127.0.0.1:1',
      VAULT_TOKEN: 'x',
    })
    expect(result.output).toContain('127.0.0.1:1 cannot be reached')
    expect(result.output).not.toContain(text.slice(0, 8))
    expect(result).toMatchObject({ code: 75, echo: true, canonical: true })
  })
})
