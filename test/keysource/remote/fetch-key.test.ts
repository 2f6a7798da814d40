import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exitCodes, type StartError } from '../../../src/errors.ts'
import type { Variable } from '../../../src/keysource/remote/child-protocol.ts'
import { type FetchRequest, fetchKey } from '../../../src/keysource/remote/fetch-key.ts'
import { offHeapCopy, SecretBytes } from '../../../src/secret.ts'
import { skipWith } from '../../support/skip.ts'
import { answering, silence } from '../support/serve.ts'
import { VaultServer } from '../support/vault-server.ts'

const key = randomBytes(32)
const token = `hvs.${randomBytes(18).toString('hex')}`
const env = { PATH: process.env['PATH'], HOME: '/nonexistent', UNRELATED: 'not-for-the-child' }

let vault: VaultServer
beforeAll(async () => {
  vault = await VaultServer.start()
  vault.put({ key: key.toString('base64') })
  vault.tokens.set(token, { namespace: '', policy: 'read' })
})
afterAll(() => vault.close())

const secret = (text: string) => new SecretBytes(offHeapCopy(Buffer.from(text)))

/** A read from `server`; a test changes what it is about. */
function request(server: VaultServer, change: Partial<FetchRequest> = {}): FetchRequest {
  const variables: Variable[] = [
    ['VAULT_ADDR', server.address],
    ['VAULT_TOKEN', secret(token)],
  ]
  return { kind: 'vault', place: 'Vault', variables, env, signal: undefined, ...change }
}

/** The children of this process that run child.ts, with what /proc shows of them. */
function children(): { pid: number; arguments: string; environment: string }[] {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return all.flatMap((name) => {
    try {
      const parent = /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${name}/status`, 'utf8'))?.[1]
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8')
      if (parent !== String(process.pid) || !command.includes('remote/child')) return []
      return [{ pid: Number(name), arguments: command, environment: environmentOf(name) }]
    } catch {
      return []
    }
  })
}

/** The child hides it from its own uid; root sees it. */
function environmentOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8')
  } catch {
    return ''
  }
}

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return !/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function until(condition: () => boolean, timeoutMs = 5000): Promise<void> {
  const endsAt = performance.now() + timeoutMs
  while (!condition()) {
    if (performance.now() > endsAt) throw new Error('waited too long')
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** A server that never answers. */
async function silentServer(): Promise<VaultServer> {
  const server = await VaultServer.start()
  server.interjections.push(silence, silence, silence)
  return server
}

async function failure(reading: Promise<unknown>): Promise<StartError> {
  const error = await reading.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({ name: 'StartError' })
  expect(String(error) + (error as StartError).hint).not.toContain(token)
  return error as StartError
}

/** A process of its own, of `uid` where one is given, that waits for a key from a server that does not answer. */
function waitElsewhere(server: VaultServer, uid?: number) {
  const entry = new URL('../../../src/keysource/remote/fetch-key.ts', import.meta.url).pathname
  const directory = mkdtempSync(join(tmpdir(), 'purser-waiting-'))
  chmodSync(directory, 0o755)
  const program = join(directory, 'parent.mjs')
  const variables = [
    ['VAULT_ADDR', server.address],
    ['VAULT_TOKEN', 'x'],
  ]
  writeFileSync(
    program,
    `import { fetchKey } from ${JSON.stringify(entry)}
     await fetchKey({ kind: 'vault', place: 'Vault', env: process.env, variables: ${JSON.stringify(variables)} })`,
  )
  const waiting = spawn(process.execPath, [program], {
    stdio: 'ignore',
    ...(uid === undefined ? {} : { uid }),
  })
  return {
    process: waiting,
    childPid: () => Number(readFileSync(`/proc/${waiting.pid}/task/${waiting.pid}/children`, 'utf8').trim()),
    end: () => {
      waiting.kill('SIGKILL')
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

const openFds = () => readdirSync('/proc/self/fd').length

describe('a child', () => {
  test('hands over the key; what was secret in the request is wiped, and nothing is left open', async () => {
    const { key: warm } = await fetchKey(request(vault))
    expect(warm).toEqual(key)
    const before = openFds()
    const variables: Variable[] = [
      ['VAULT_ADDR', vault.address],
      ['VAULT_TOKEN', secret(token)],
    ]
    const fetched = await fetchKey(request(vault, { variables }))
    expect(fetched).toEqual({ key, warning: null })
    expect(fetched.key.buffer.byteLength).toBe(32)
    expect((variables[1]![1] as SecretBytes).bytes.every((byte) => byte === 0)).toBe(true)
    await until(() => openFds() <= before)
    expect(children()).toEqual([])
  })

  test('gets no secret by arguments or environment, nor what is not for it', async () => {
    const server = await silentServer()
    const controller = new AbortController()
    const reading = fetchKey(request(server, { signal: controller.signal }))
    await until(() => server.requests.length >= 1)
    const [child] = children()
    expect(child?.arguments.split('\0').slice(-3)).toEqual([expect.stringContaining('child.ts'), 'vault', ''])
    expect(child?.arguments).not.toContain(token)
    if (process.getuid?.() === 0) expect(child?.environment).toContain('NODE_NO_WARNINGS=1')
    expect(child?.environment).not.toMatch(new RegExp(`${token}|VAULT_|UNRELATED`))
    controller.abort(new Error('sealed'))
    await expect(reading).rejects.toThrow('sealed')
    await server.close()
  })

  test('ends at once when it is aborted, before or while it runs', async () => {
    const server = await silentServer()
    await expect(
      fetchKey(request(server, { signal: AbortSignal.abort(new Error('early')) })),
    ).rejects.toThrow('early')
    const controller = new AbortController()
    const reading = fetchKey(request(server, { signal: controller.signal }))
    await until(() => server.requests.length >= 1)
    const { pid } = children()[0]!
    const abortedAt = performance.now()
    controller.abort(new Error('sealed'))
    await expect(reading).rejects.toThrow('sealed')
    expect(performance.now() - abortedAt).toBeLessThan(1000)
    expect(isAlive(pid)).toBe(false)
    await server.close()
  })

  test('is killed at the bound', async () => {
    const server = await silentServer()
    const reading = fetchKey(request(server, { timeoutMs: 700 }))
    const error = await failure(reading)
    expect(error.exitCode).toBe(exitCodes.masterKey)
    expect(error.message).toBe('no master key from Vault: it took too long')
    expect(children()).toEqual([])
    await server.close()
  })

  test('ends when the process that waits for it is killed', async () => {
    const server = await silentServer()
    const waiting = waitElsewhere(server)
    try {
      await until(() => server.requests.length >= 1)
      const pid = waiting.childPid()
      waiting.process.kill('SIGKILL')
      await once(waiting.process, 'exit')
      await until(() => !isAlive(pid))
    } finally {
      waiting.end()
      await server.close()
    }
  })

  test('cannot be looked into by other processes of its uid', async (context) => {
    const server = await silentServer()
    // Root owns what the kernel hides from the rest: of a child of root nothing could be told.
    const waiting = waitElsewhere(server, process.getuid?.() === 0 ? 65534 : undefined)
    try {
      const exited = once(waiting.process, 'exit').then(() => 'exited')
      const asked = until(() => server.requests.length >= 1).then(() => 'asked')
      if ((await Promise.race([exited, asked])) === 'exited') {
        return skipWith(context.skip, 'another uid cannot read this checkout')
      }
      expect(statSync(`/proc/${waiting.process.pid}/environ`).uid).not.toBe(0)
      expect(statSync(`/proc/${waiting.childPid()}/environ`).uid).toBe(0)
    } finally {
      waiting.end()
      await server.close()
    }
  })

  test('that cannot be started is exit 77', async () => {
    const { execPath } = process
    process.execPath = '/nonexistent/node'
    const before = openFds()
    try {
      const error = await failure(fetchKey(request(vault)))
      expect(error.exitCode).toBe(exitCodes.masterKey)
      expect(error.message).toBe(
        'no master key from Vault: the process that reads it cannot be started (ENOENT)',
      )
      await until(() => openFds() <= before)
    } finally {
      process.execPath = execPath
    }
  })

  test.each([
    ['ends without a key', 'process.exit(0)', /ended without one \(exit 0\)$/],
    ['gives a byte too few', "fs.writeSync(1, 'x'.repeat(31))", /ended without one \(exit 0\)$/],
    ['gives a byte too many', "fs.writeSync(1, 'x'.repeat(33))", /ended without one \(exit 0\)$/],
    ['gives a key and fails', "fs.writeSync(1, 'x'.repeat(32)); process.exit(3)", /\(exit 3\)$/],
    ['says what no report is', "fs.writeSync(2, 'Error: hush'); process.exit(1)", /\(exit 1\)$/],
    ['talks without end', "for(;;) fs.writeSync(2, 'hush'.repeat(1e6))", /it took too long$/],
    ['is killed', "process.kill(process.pid, 'SIGKILL')", /ended without one \(SIGKILL\)$/],
  ])('that %s is exit 77, and none of its words are repeated', async (_, code, message) => {
    const directory = mkdtempSync(join(tmpdir(), 'purser-child-'))
    const { execPath } = process
    const impostor = join(directory, 'node')
    writeFileSync(impostor, `#!${execPath}\nconst fs = require('node:fs'); ${code}\n`, { mode: 0o755 })
    process.execPath = impostor
    try {
      const error = await failure(fetchKey(request(vault, { timeoutMs: 1500 })))
      expect(error.exitCode).toBe(exitCodes.masterKey)
      expect(error.message).toMatch(message)
      expect(error.message).not.toContain('hush')
    } finally {
      process.execPath = execPath
      rmSync(directory, { recursive: true, force: true })
    }
  })

  test('says why in one line: what failed is exit 77, what is configured wrongly 78', async () => {
    const denied = await failure(
      fetchKey(
        request(vault, {
          variables: [
            ['VAULT_ADDR', vault.address],
            ['VAULT_TOKEN', secret('hvs.other')],
          ],
        }),
      ),
    )
    expect(denied.exitCode).toBe(exitCodes.masterKey)
    expect(denied.message).toBe(
      'no master key from Vault: it refused access to secret/data/polymarket/master_encryption_key (403)',
    )
    const wrong = await failure(fetchKey(request(vault, { variables: [['VAULT_ADDR', vault.address]] })))
    expect(wrong.exitCode).toBe(exitCodes.config)
  })

  test('tells of a login that could not be undone beside the key', async () => {
    const server = await VaultServer.start()
    server.put({ key: key.toString('hex') })
    const { roleId, secretId } = server.createRole()
    const variables: Variable[] = [
      ['VAULT_ADDR', server.address],
      ['VAULT_ROLE_ID', roleId],
      ['VAULT_SECRET_ID', secret(secretId)],
    ]
    server.interjections.push(null, null, answering(403, { errors: ['permission denied'] }))
    expect(await fetchKey(request(server, { variables }))).toMatchObject({
      key,
      warning: expect.stringContaining('could not be revoked'),
    })
    await server.close()
  })
})
