import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { StartPurserError, startPurser } from '../../src/testing/index.ts'
import { rejection, until } from '../client/peer.ts'
import { FakePurserd, isAlive } from './fake-purserd.ts'

const here = dirname(fileURLToPath(import.meta.url))

const alive = (pid: number): boolean => isAlive(pid, (of) => readFileSync(`/proc/${of}/stat`, 'utf8'))

/** Serves until it is told to end; sleeps in short steps because sh runs a trap only between commands. */
const serving = "trap 'exit 0' TERM; ready; while :; do sleep 0.05; done"

describe('a purserd that does not come up', () => {
  test('exits: the error has its exit code and its last lines, and nothing stays', async () => {
    using fake = new FakePurserd('echo one; echo "two: do this" >&2; printf unterminated >&2; exit 78')
    const error = (await rejection(startPurser({ launcher: fake.launcher }))) as StartPurserError
    expect(error).toBeInstanceOf(StartPurserError)
    expect(error.exitCode).toBe(78)
    expect(error.logs.toSorted()).toEqual(['one', 'two: do this', 'unterminated'])
    expect(error.message).toContain('exited with 78')
    expect(error.message).toContain('two: do this')
  })

  test('is killed: the error names the signal', async () => {
    using fake = new FakePurserd('kill -ABRT $$')
    expect(await rejection(startPurser({ launcher: fake.launcher }))).toMatchObject({
      name: 'StartPurserError',
      exitCode: null,
      signal: 'SIGABRT',
    })
  })

  test('is never ready: it is killed in time, even one that ignores SIGTERM', async () => {
    using fake = new FakePurserd('trap "" TERM; echo "pid $$ in $PWD"; while :; do sleep 0.05; done')
    const error = (await rejection(
      startPurser({ launcher: fake.launcher, readyTimeoutMs: 300 }),
    )) as StartPurserError
    expect(error.message).toContain('not ready within 300 ms')
    const [, pid, directory] = /pid (\d+) in (\S+)/.exec(error.logs.join('\n')) ?? []
    expect(alive(Number(pid))).toBe(false)
    expect(existsSync(directory ?? '/')).toBe(false)
  })

  test('is not there at all', async () => {
    const error = await rejection(startPurser({ launcher: '/nonexistent/purserd' }))
    expect(error).toMatchObject({ name: 'StartPurserError', exitCode: null })
    expect((error as Error).message).toContain('ENOENT')
  })

  test('floods its output: the log stays bounded', async () => {
    using fake = new FakePurserd(
      `yes line | head -n 60000; head -c 1000000 /dev/zero | tr '\\0' x; echo; ${serving}`,
    )
    await using purser = await startPurser({ launcher: fake.launcher })
    expect(purser.logs().length).toBeLessThanOrEqual(20_000)
    expect(Math.max(...purser.logs().map((line) => line.length))).toBeLessThanOrEqual(16_384)
    expect(purser.logs().at(-1)).toContain('"ready"')
  })
})

describe('what the daemon is given', () => {
  test('a minimal environment, its own HOME, and what the test adds', async () => {
    using fake = new FakePurserd(`env; ${serving}`)
    const hostile = {
      PURSER_SOCKET: 'x',
      PURSER_CACHE_TTL_SECONDS: 'x',
      MASTER_ENCRYPTION_KEY: 'x',
      ENCRYPTED_MASTER_KEY: 'x',
      VAULT_ADDR: 'x',
      AWS_REGION: 'x',
      NODE_OPTIONS: '--no-warnings',
      CREDENTIALS_DIRECTORY: 'x',
      STATE_DIRECTORY: 'x',
      RUNTIME_DIRECTORY: 'x',
      NOTIFY_SOCKET: 'x',
      LISTEN_FDS: '1',
      LISTEN_PID: '1',
      INVOCATION_ID: 'x',
      XDG_RUNTIME_DIR: 'x',
      XDG_DATA_HOME: 'x',
    }
    const before = { ...process.env }
    Object.assign(process.env, hostile)
    try {
      await using purser = await startPurser({
        launcher: fake.launcher,
        env: { ADDED: 'yes', LANG: undefined },
      })
      const names = purser.logs().flatMap((line) => /^([A-Z_]+)=/.exec(line)?.[1] ?? [])
      expect(Object.keys(hostile).filter((name) => names.includes(name))).toEqual([])
      expect(names).not.toContain('LANG')
      expect(purser.logs()).toContain('ADDED=yes')
      expect(purser.logs()).toContain(`HOME=${purser.directory}`)
    } finally {
      for (const name of Object.keys(hostile)) delete process.env[name]
      Object.assign(process.env, before)
    }
  })

  test('directory 0700, key file 0600 with the key given or a random one, the settings as TOML', async () => {
    using fake = new FakePurserd(`stat -c '%a %n' . data *; cat purser.toml master.key; ${serving}`)
    await using given = await startPurser({
      launcher: fake.launcher,
      config: { cache: { ttl_seconds: 0 }, tiers: { tiny: { per_trade: '1', daily: '2', exposure: '3' } } },
      masterKey: Buffer.alloc(32, 7),
    })
    const [key, log] = [Buffer.alloc(32, 7).toString('base64'), given.logs().join('\n')]
    expect(given.masterKey).toBe(key)
    for (const line of ['700 .', '700 data', '600 master.key', '600 purser.toml', 'ttl_seconds = 0', key])
      expect(log).toContain(line)
    await using random = await startPurser({ launcher: fake.launcher, config: 'x = 1\n' })
    expect(Buffer.from(random.masterKey ?? '', 'base64').length).toBe(32)
    expect(random.masterKey).not.toBe(key)
    expect(random.logs()).toContain('x = 1')
    await using none = await startPurser({ launcher: fake.launcher, masterKey: null })
    expect(none.masterKeyFile).toBeNull()
    expect(none.logs().join('\n')).not.toContain('600 master.key')
  })

  test('fastKdf lowers the cost of key derivation, and nothing else does', async () => {
    using fake = new FakePurserd(`env; ${serving}`)
    await using fast = await startPurser({ launcher: fake.launcher, fastKdf: true })
    expect(fast.logs()).toContain('PURSER_KDF_MEMORY_KIB=8')
    await using usual = await startPurser({ launcher: fake.launcher })
    expect(usual.logs().filter((line) => line.startsWith('PURSER_'))).toEqual([])
  })
})

describe('the end', () => {
  test('stop ends the daemon by SIGTERM and removes the directory; again is nothing', async () => {
    using fake = new FakePurserd(serving)
    const purser = await startPurser({ launcher: fake.launcher })
    expect(alive(purser.pid)).toBe(true)
    await purser.stop()
    expect(alive(purser.pid)).toBe(false)
    expect(existsSync(purser.directory)).toBe(false)
    await purser.stop()
    expect(await rejection(purser.restart())).toBeInstanceOf(Error)
  })

  test('kill tells how it ended, restart brings it back', async () => {
    using fake = new FakePurserd(serving)
    await using purser = await startPurser({ launcher: fake.launcher })
    const first = purser.pid
    expect(await purser.kill()).toEqual({ code: null, signal: 'SIGKILL' })
    expect(alive(first)).toBe(false)
    expect(await rejection(purser.kill())).toBeInstanceOf(Error)
    await purser.restart()
    expect(purser.pid).not.toBe(first)
    expect(await purser.kill('SIGTERM')).toEqual({ code: 0, signal: null })
  })

  test('a data directory of the test is used and left', async () => {
    using fake = new FakePurserd(serving)
    await using own = await startPurser({ launcher: fake.launcher })
    const purser = await startPurser({ launcher: fake.launcher, dataDirectory: own.dataDirectory })
    expect(purser.dataDirectory).toBe(own.dataDirectory)
    await purser.stop()
    expect(existsSync(own.dataDirectory)).toBe(true)
  })

  test('a pid that has passed to another process is left alone', async () => {
    const stranger = spawn('/bin/sleep', ['60'], { stdio: 'ignore' })
    const directory = mkdtempSync(join(tmpdir(), 'purser-guarded-'))
    const script = `
      import { Guard } from ${JSON.stringify(join(here, '../../src/testing/guard.ts'))}
      new Guard(${JSON.stringify(directory)}).watch(${stranger.pid})
      setTimeout(() => process.kill(process.pid, 'SIGKILL'), 100)`
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' })
    await once(parent, 'exit')
    await until(() => !existsSync(directory))
    // A kill takes a moment to show.
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(alive(stranger.pid ?? 0)).toBe(true)
    stranger.kill()
  })

  const ends: readonly [string, string, NodeJS.Signals | null][] = [
    ['leaves normally without stop', '', null],
    ['calls process.exit', 'process.exit(3)', null],
    ['throws', 'setImmediate(() => { throw new Error("crash") })', null],
    ['is killed by SIGKILL', 'setInterval(() => {}, 1000)', 'SIGKILL'],
    ['is ended by SIGTERM', 'setInterval(() => {}, 1000)', 'SIGTERM'],
  ]
  test.each(ends)('the daemon and its directory go when the parent %s', async (_name, code, signal) => {
    using fake = new FakePurserd('trap "" TERM INT HUP; ready; while :; do sleep 0.05; done')
    const script = `
      import { startPurser } from ${JSON.stringify(join(here, '../../src/testing/index.ts'))}
      const purser = await startPurser({ launcher: ${JSON.stringify(fake.launcher)} })
      console.log(JSON.stringify({ pid: purser.pid, directory: purser.directory }))
      ${code}`
    const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const exited = once(parent, 'exit')
    const [line] = (await once(parent.stdout.setEncoding('utf8'), 'data')) as [string]
    const { pid, directory } = JSON.parse(line) as { pid: number; directory: string }
    if (signal !== null) {
      expect(alive(pid)).toBe(true)
      expect(existsSync(directory)).toBe(true)
      parent.kill(signal)
    }
    await exited
    // In an orderly end nothing is left once the parent is gone; otherwise the guard takes a moment.
    if (signal === null) expect(existsSync(directory)).toBe(false)
    await until(() => !alive(pid) && !existsSync(directory))
  })
})
