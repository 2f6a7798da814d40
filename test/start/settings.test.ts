import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { apiSecret } from '../support/flow.ts'
import { RawClient } from '../support/raw-client.ts'
import { cleanUp, keyFile, Purserd, startReady, temporaryDirectory } from './purserd.ts'

cleanUp()

let home: string
let key: string

beforeEach(() => {
  home = temporaryDirectory()
  key = keyFile(home)
})

const modeOf = (path: string): string => (statSync(path).mode & 0o7777).toString(8).padStart(4, '0')

async function ask(socket: string, method: string, params: object = {}) {
  const client = new RawClient(socket)
  try {
    return await client.call(method, params)
  } finally {
    client.close()
  }
}

describe('where things lie', () => {
  test('without anything: below the home directory, the socket beside the store, a key generated', async () => {
    const purserd = await startReady([], home)
    const data = join(home, '.local/share/purser')
    expect(await purserd.ready()).toMatchObject({
      msg: 'ready',
      socket: join(data, 'purser.sock'),
      boundary: 'none',
      dataDirectory: data,
    })
    expect(readdirSync(data).sort()).toEqual(['master.key', 'purser.db', 'purser.db-wal', 'purser.sock'])
    expect(purserd.log.find(({ level }) => level === 40)?.msg).toContain(`generated into ${data}/master.key`)
    expect((await ask(join(data, 'purser.sock'), 'system.ping')).result).toMatchObject({ pong: true })
  })

  test('XDG_DATA_HOME and XDG_RUNTIME_DIR', async () => {
    const env = { XDG_DATA_HOME: join(home, 'share'), XDG_RUNTIME_DIR: join(home, 'run') }
    mkdirSync(env.XDG_RUNTIME_DIR, { mode: 0o700 })
    const purserd = await startReady(['--master-key-file', key], home, { env })
    expect(await purserd.ready()).toMatchObject({
      socket: join(home, 'run/purser/purser.sock'),
      dataDirectory: join(home, 'share/purser'),
    })
    expect(modeOf(join(home, 'run/purser'))).toBe('0700')
  })

  test("systemd's STATE_DIRECTORY and RUNTIME_DIRECTORY go before them", async () => {
    const env = {
      STATE_DIRECTORY: `${join(home, 'state')}:${join(home, 'second')}`,
      RUNTIME_DIRECTORY: join(home, 'runtime'),
      XDG_DATA_HOME: join(home, 'share'),
      XDG_RUNTIME_DIR: join(home, 'run'),
    }
    const purserd = await startReady(['--master-key-file', key], home, { env })
    expect(await purserd.ready()).toMatchObject({
      socket: join(home, 'runtime/purser.sock'),
      dataDirectory: join(home, 'state'),
    })
  })

  test('files are 0600 and directories 0700, whatever the umask and however open they were', async () => {
    const data = join(home, 'deep/er/data')
    mkdirSync(data, { recursive: true, mode: 0o755 })
    writeFileSync(join(data, 'purser.toml'), '')
    const socket = join(home, 'a/b/purser.sock')
    const args = ['-c', 'umask 0; exec "$0" "$@"', join(import.meta.dirname, '../../bin/purserd')]
    const purserd = await startReady(
      [...args, '--data-dir', data, '--socket', socket, '--admin-socket', join(home, 'c/admin.sock')],
      home,
      { command: '/bin/sh' },
    )
    const modes = ['master.key', 'purser.db', 'purser.db-wal'].map((name) => modeOf(join(data, name)))
    expect(modes).toEqual(['0600', '0600', '0600'])
    expect([socket, join(home, 'c/admin.sock')].map(modeOf)).toEqual(['0600', '0600'])
    expect([data, join(home, 'a'), join(home, 'a/b'), join(home, 'c')].map(modeOf)).toEqual(
      Array(4).fill('0700'),
    )
    const made = await ask(join(home, 'c/admin.sock'), 'backup.create')
    expect(modeOf(made.result.path)).toBe('0600')
    await purserd.stop()
    expect(modeOf(join(data, 'purser.db'))).toBe('0600')
  })

  test('the socket has the mode that is asked for, the admin socket never', async () => {
    const args = [
      '--data-dir',
      join(home, 'd'),
      '--socket',
      join(home, 's'),
      '--admin-socket',
      join(home, 'x/a'),
    ]
    await startReady(args, home, { env: { PURSER_SOCKET_MODE: '0666' } })
    expect([join(home, 's'), join(home, 'x/a')].map(modeOf)).toEqual(['0666', '0600'])
  })
})

describe('flag beats environment beats file beats default', () => {
  test('the socket and the log level', async () => {
    const data = join(home, 'data')
    mkdirSync(data, { mode: 0o700 })
    const toml = join(data, 'purser.toml')
    const base = ['--data-dir', data, '--master-key-file', key]
    const started = async (args: string[], env: Record<string, string> = {}) => {
      const purserd = await startReady([...base, ...args], home, { env: { PURSER_UNKNOWN: '1', ...env } })
      const { socket } = await purserd.ready()
      await purserd.stop()
      return { socket, warned: purserd.log.some(({ msg }) => msg.includes('PURSER_UNKNOWN')) }
    }
    expect(await started([])).toEqual({ socket: join(data, 'purser.sock'), warned: true })
    writeFileSync(toml, '[socket]\npath = "file.sock"\n[log]\nlevel = "error"\n')
    expect(await started([])).toEqual({ socket: join(data, 'file.sock'), warned: false })
    const env = { PURSER_SOCKET: 'env.sock', PURSER_LOG_LEVEL: 'warn' }
    expect(await started([], env)).toEqual({ socket: join(home, 'env.sock'), warned: true })
    expect(await started(['--socket', 'flag.sock', '--log-level', 'silent'], env)).toEqual({
      socket: join(home, 'flag.sock'),
      warned: false,
    })
  })

  test('a key of the file, and its variable, reach the part they are for', async () => {
    const config = join(home, 'named.toml')
    writeFileSync(
      config,
      'credentials.private_key_policy = "sign-only"\ncredentials.max_per_user = 1\ntiers.free.daily = "7.5"\n',
    )
    const args = ['--data-dir', join(home, 'd'), '--config', config, '--master-key-file', key]
    const env = { PURSER_CREDENTIALS_MAX_PER_USER: '2', PURSER_KDF_MEMORY_KIB: '8' }
    const { socket } = await (await startReady(args, home, { env })).ready()
    const store = (apiKey: string) =>
      ask(socket, 'credentials.store', { userId: 'u', apiKey, apiSecret: apiSecret(1) })
    expect((await store('k1')).error).toBeUndefined()
    expect((await store('k2')).error).toBeUndefined()
    expect((await store('k3')).error?.data).toMatchObject({ type: 'Conflict', resource: 'credential' })
    expect((await ask(socket, 'credentials.get', { userId: 'u', credentialId: 1 })).result).toMatchObject({
      privateKeyPolicy: 'sign-only',
    })
    expect((await ask(socket, 'users.get', { userId: 'u' })).result.limits).toMatchObject({
      perTradeUsd: '100.00',
      dailyUsd: '7.50',
    })
  })

  test('an unknown PURSER_ variable is a warning that names it and not its value', async () => {
    const purserd = await startReady(['--master-key-file', key], home, { env: { PURSER_CASH: 'hush-hush' } })
    const warnings = purserd.log.filter(({ level }) => level === 40)
    expect(warnings.map(({ msg }) => msg)).toEqual(['unknown variable PURSER_CASH is ignored'])
    expect(purserd.stdout + purserd.stderr).not.toContain('hush')
  })
})

describe('what it prints', () => {
  test('help and version, at once, without making anything', async () => {
    for (const [flag, text] of [
      ['--help', /^usage: purserd \[--data-dir DIR\]/],
      ['--version', /^purserd \d+\.\d+\.\d+\n$/],
    ] as const) {
      const { code, stdout, stderr } = await new Purserd([flag], home).ended
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toMatch(text)
    }
    expect(readdirSync(home)).toEqual(['a.key'])
  })

  test('JSON lines on stdout, of which exactly one says ready; nothing on stderr', async () => {
    for (const level of ['trace', 'silent']) {
      const purserd = await startReady(['--log-level', level, '--master-key-file', key], home)
      const { stderr } = await purserd.stop()
      expect(stderr).toBe('')
      expect(purserd.log.filter(({ msg }) => msg === 'ready')).toHaveLength(1)
      if (level === 'silent') expect(purserd.log).toHaveLength(1)
    }
  })
})
