import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { RawClient } from '../support/raw-client.ts'
import { skipWith } from '../support/skip.ts'
import { filesBelow, found, writableMemory } from './needles.ts'
import { cleanUp, keyFile, otherUid, type Purserd, startReady, temporaryDirectory } from './purserd.ts'

cleanUp()

let home: string
let data: string
let socket: string
let base: string[]

beforeEach(() => {
  home = temporaryDirectory()
  data = join(home, 'data')
  socket = join(home, 's')
  base = ['--data-dir', data, '--socket', socket]
})

/** What is secret in one session. Secrets that are text come as that text and, where it encodes bytes, as those. */
function makeSecrets() {
  const masterKey = randomBytes(32)
  const apiSecret = randomBytes(32)
  const replaced = randomBytes(32)
  const refused = randomBytes(32)
  const privateKey = randomBytes(32)
  privateKey[0] = 1
  const passphrase = `pass-${randomBytes(12).toString('hex')}"\\\n`
  const text = (bytes: Buffer) => `${bytes.toString('base64url')}=`
  return {
    masterKey,
    apiSecret: text(apiSecret),
    replaced: text(replaced),
    refused: text(refused),
    privateKey: `0x${privateKey.toString('hex')}`,
    passphrase,
    spellings: {
      masterKey: [masterKey],
      apiSecret: [apiSecret, Buffer.from(text(apiSecret))],
      replaced: [replaced, Buffer.from(text(replaced))],
      refused: [refused, Buffer.from(text(refused))],
      privateKey: [privateKey, Buffer.from(privateKey.toString('hex'))],
      passphrase: [Buffer.from(passphrase)],
    },
  }
}

type Secrets = ReturnType<typeof makeSecrets>

/** Stores, retrieves and makes every mistake that has a secret in it; answers every byte the daemon sent back. */
async function session(secrets: Secrets): Promise<{ answered: string; refusals: string }> {
  const client = new RawClient(socket)
  let answered = ''
  client.socket.on('data', (text: string) => {
    answered += text
  })
  const { apiSecret, passphrase, privateKey, replaced, refused } = secrets
  const credential = { userId: 'alice', apiKey: 'k1', apiSecret, passphrase, privateKey }
  expect((await client.call('credentials.store', credential)).error).toBeUndefined()
  expect((await client.call('credentials.retrieve', { userId: 'alice' })).result.apiSecret).toBe(apiSecret)
  const replacement = { userId: 'alice', credentialId: 1, apiKey: 'k2', apiSecret: replaced, privateKey }
  expect((await client.call('credentials.replace', replacement)).error).toBeUndefined()
  expect((await client.call('credentials.retrieve', { userId: 'alice' })).result.apiSecret).toBe(replaced)
  expect((await client.call('credentials.rotate', { userId: 'alice' })).result).toEqual({ rotated: 1 })
  expect((await client.call('backup.create')).error).toBeUndefined()
  const right = answered
  answered = ''
  const bad = { userId: 'alice', apiKey: 'k3', apiSecret: refused }
  const mistakes: [string, object][] = [
    ['credentials.store', { ...bad, apiKey: 'k2' }],
    ['credentials.store', { ...bad, passphrase: [refused] }],
    ['credentials.store', { ...bad, apiSecret: { inner: refused } }],
    ['credentials.store', { ...bad, apiSecret: `${refused}!` }],
    ['credentials.store', { ...bad, privateKey: `0x${refused}` }],
    ['credentials.store', { ...bad, unknownMember: refused }],
    ['credentials.store', { ...bad, userId: refused, name: 'a'.repeat(300) }],
    ['credentials.store', { ...bad, expiresInDays: refused }],
    ['credentials.retrieve', { userId: 'alice', credentialId: refused }],
    ['credentials.replace', { ...bad, credentialId: 99 }],
    ['no.such.method', bad],
    ['system.ping', bad],
  ]
  for (const [method, params] of mistakes) {
    expect((await client.call(method, params)).error, `${method} ${Object.keys(params)}`).toBeDefined()
  }
  for (const line of [
    `{"jsonrpc":"2.0","id":1,"method":"credentials.store","params":{"apiSecret":"${refused}"`,
    `{"jsonrpc":"2.0","id":1,"method":"credentials.store","params":{"\\u0061piSecret":"${refused}"}}`,
    `{"jsonrpc":"2.0","id":1,"method":"credentials.store","params":["${refused}"]}`,
    `{"jsonrpc":"2.0","id":{"a":"${refused}"},"method":"${refused}"}`,
    `"${refused}"`,
  ]) {
    client.send(`${line}\n`)
    await client.answer()
  }
  client.send(
    `{"jsonrpc":"2.0","id":1,"method":"x","params":{"apiSecret":"${`${refused} `.repeat(2000)}"}}\n`,
  )
  await client.answer()
  await client.ended()
  const http = new RawClient(socket)
  http.send(`GET /?key=${refused} HTTP/1.1\r\nauthorization: ${refused}\r\n\r\n`)
  await http.answer()
  http.close()
  return { answered: right, refusals: answered }
}

describe('the master key and stored secrets', () => {
  test.each([
    ['MASTER_ENCRYPTION_KEY', 'trace'],
    ['a key file', 'info'],
  ])('are in nothing the daemon writes or shows (%s, log level %s)', async (kind, level) => {
    const secrets = makeSecrets()
    const { spellings } = secrets
    const keys = join(home, 'keys')
    mkdirSync(keys)
    const file = kind === 'a key file' ? keyFile(keys, secrets.masterKey) : null
    const args = [...base, '--log-level', level, ...(file === null ? [] : ['--master-key-file', file])]
    const env: Record<string, string> = { PURSER_KDF_MEMORY_KIB: '8' }
    if (file === null) env['MASTER_ENCRYPTION_KEY'] = secrets.masterKey.toString('base64')
    const purserd = await startReady(args, home, { env })
    const { answered, refusals } = await session(secrets)

    // The control: what looks for them finds them, also within JSON, hex and at any place of base64.
    expect(found(spellings, answered).sort()).toEqual(['apiSecret', 'passphrase', 'privateKey', 'replaced'])
    for (const before of ['', 'x', 'xy']) {
      const text = Buffer.concat([Buffer.from(before), secrets.masterKey]).toString('base64url')
      expect(found(spellings, text)).toEqual(['masterKey'])
    }
    expect(found(spellings, secrets.masterKey.toString('hex').toUpperCase())).toEqual(['masterKey'])

    expect(found(spellings, refusals)).toEqual([])
    const look = () => {
      for (const [path, bytes] of filesBelow(data)) expect(found(spellings, bytes), path).toEqual([])
      expect(found(spellings, purserd.stdout + purserd.stderr)).toEqual([])
    }
    look()
    expect(readdirSync(data).filter((name) => name.startsWith('backup-'))).toHaveLength(1)
    expect(found(spellings, readFileSync(`/proc/${purserd.pid}/cmdline`))).toEqual([])
    if (process.getuid?.() === 0) {
      expect(found(spellings, readFileSync(`/proc/${purserd.pid}/environ`))).toEqual([])
    }
    await purserd.stop()
    look()
    expect([...filesBelow(home).keys()].filter((path) => !path.startsWith(data))).toEqual(
      file === null ? [] : [file],
    )
  })

  test('a key from the environment is in memory once, as bytes, and nowhere as text', async ({ skip }) => {
    if (process.getuid?.() !== 0) return skipWith(skip, 'needs root to read the memory of a daemon')
    const key = randomBytes(32)
    const text = key.toString('base64url')
    const copies = (pid: number) => {
      const counts = { text: 0, key: 0 }
      for (const region of writableMemory(pid)) {
        for (const part of [text.slice(0, 20), text.slice(20, 40)]) if (region.includes(part)) counts.text++
        for (let at = region.indexOf(key); at >= 0; at = region.indexOf(key, at + 1)) counts.key++
      }
      return counts
    }
    const env = { MASTER_ENCRYPTION_KEY: text }
    const purserd = await startReady(base, home, { env })
    expect(copies(purserd.pid)).toEqual({ text: 0, key: 1 })
    expect(readFileSync(`/proc/${purserd.pid}/environ`).includes(text.slice(0, 20))).toBe(false)
    // Nor was it handed on: it has no children, and its variables are those it would give one.
    expect(readFileSync(`/proc/${purserd.pid}/task/${purserd.pid}/children`, 'utf8')).toBe('')
    // The control: a process that was given the same and did nothing about it.
    const plain = spawn('sleep', ['60'], { env: { ...process.env, ...env } })
    await once(plain, 'spawn')
    await expect.poll(() => copies(plain.pid!).text).toBeGreaterThan(0)
    plain.kill('SIGKILL')
  })
})

describe('the process', () => {
  /** In a directory of its own, with core files allowed as far as this machine lets one. */
  function withCores(script: string): { command: string; args: string[] } {
    return { command: '/bin/sh', args: ['-c', `ulimit -c unlimited 2>/dev/null; ${script}`, 'sh'] }
  }

  const cores = () => readdirSync(home).filter((name) => name.startsWith('core'))

  test.for(['SIGABRT', 'SIGSEGV'] as const)(
    'leaves no core file when it dies of %s',
    async (signal, { skip }) => {
      const key = keyFile(home)
      const shell = withCores('exec "$@"')
      const launcher = join(import.meta.dirname, '../../bin/purserd')
      const args = [...shell.args, launcher, ...base, '--master-key-file', key]
      const purserd = await startReady(args, home, { command: shell.command })
      expect(readFileSync(`/proc/${purserd.pid}/limits`, 'utf8')).toMatch(/^Max core file size\s+0\s+0\s/m)
      expect(await purserd.stop(signal)).toMatchObject({ code: null, signal })
      expect([...filesBelow(home).keys()].filter((path) => /core/.test(path.slice(home.length)))).toEqual([])
      const control = withCores('kill -ABRT $$')
      spawnSync(control.command, control.args, { cwd: home })
      if (cores().length === 0)
        skipWith(skip, 'this machine writes no core files at all: nothing was compared')
    },
  )

  test('opens no debugger on SIGUSR1, nor any other port', async () => {
    const purserd = await startReady([...base, '--master-key-file', keyFile(home)], home)
    for (let times = 0; times < 3; times++) process.kill(purserd.pid, 'SIGUSR1')
    const client = new RawClient(socket)
    expect((await client.call('system.ping')).result).toMatchObject({ pong: true })
    // A debugger, where one opens, does so from a thread of its own.
    await new Promise((wait) => setTimeout(wait, 200))
    expect(purserd.stderr).toBe('')
    expect(listensOnTcp(purserd)).toEqual([])
    expect(threadsOf(purserd).filter((name) => /inspect|signal|debug/i.test(name))).toEqual([])
    client.close()
    expect((await purserd.stop()).code).toBe(0)
  })

  function threadsOf({ pid }: Purserd): string[] {
    const threads = readdirSync(`/proc/${pid}/task`)
    return threads.map((thread) => readFileSync(`/proc/${pid}/task/${thread}/comm`, 'utf8').trim())
  }

  /** Lines of the kernel's tables of TCP sockets that belong to the process. */
  function listensOnTcp({ pid }: Purserd): string[] {
    const own = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return [statSync(`/proc/${pid}/fd/${fd}`).ino]
      } catch {
        return []
      }
    })
    return ['tcp', 'tcp6'].flatMap((table) => {
      const lines = readFileSync(`/proc/${pid}/net/${table}`, 'utf8').trim().split('\n').slice(1)
      return lines.filter((line) => own.includes(Number(line.trim().split(/\s+/)[9])))
    })
  }

  test('cannot be looked into by other uids, nor by its own', async ({ skip }) => {
    const uid = otherUid(skip)
    chmodSync(home, 0o711)
    const own = join(home, 'own')
    mkdirSync(own, { mode: 0o700 })
    chownSync(own, uid, uid)
    const as = { uid, gid: uid }
    const args = ['--data-dir', join(own, 'd'), '--socket', join(own, 's')]
    const purserd = await startReady(args, own, { spawn: as })
    const reads = (pid: number, name: string, who: number) =>
      spawnSync('cat', [`/proc/${pid}/${name}`], { uid: who, gid: who, stdio: ['ignore', 'ignore', 'pipe'] })
        .status === 0
    for (const who of [uid, uid - 1]) {
      for (const name of ['environ', 'maps', 'mem']) expect(reads(purserd.pid, name, who), name).toBe(false)
      expect(spawnSync('ls', [`/proc/${purserd.pid}/fd`], { uid: who, gid: who }).status).not.toBe(0)
    }
    // Not dumpable: what /proc shows of it belongs to root.
    expect(statSync(`/proc/${purserd.pid}/environ`).uid).toBe(0)
    // The control: of any other program the same uid reads all that.
    const plain = spawn('sleep', ['60'], as)
    await once(plain, 'spawn')
    await expect.poll(() => reads(plain.pid!, 'environ', uid)).toBe(true)
    plain.kill('SIGKILL')
  })

  test('shows nothing of a key given where it does not belong', async () => {
    const purserd = await startReady([...base, '--master-key-file', keyFile(home)], home, {
      env: { MASTER_ENCRYPTION_KEY: 'x'.repeat(64), PURSER_MASTER_KEY: 'y'.repeat(64) },
    })
    const warnings = purserd.log.filter(({ level }) => level === 40).map(({ msg }) => msg)
    expect(warnings).toEqual([
      'unknown variable PURSER_MASTER_KEY is ignored',
      expect.stringMatching(/^MASTER_ENCRYPTION_KEY is set but not used/),
    ])
    expect(purserd.stdout).not.toMatch(/x{8}|y{8}/)
    if (process.getuid?.() === 0) {
      expect(readFileSync(`/proc/${purserd.pid}/environ`, 'utf8')).not.toContain('xxxx')
    }
  })
})
