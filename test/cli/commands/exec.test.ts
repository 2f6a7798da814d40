import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { apiSecret, type CliDaemon, privateKey, startCliDaemon } from '../daemon.ts'
import { noPty, runOnPty } from '../on-terminal.ts'
import { finish, startCli } from '../run-cli.ts'

const printEnv = [process.execPath, '-e', 'console.log(JSON.stringify(process.env))']

describe('purser exec', { timeout: 30_000 }, () => {
  let cli: CliDaemon
  beforeAll(async () => {
    cli = await startCliDaemon()
    await cli.purser.rpc('credentials.store', {
      userId: 'bot',
      apiKey: 'k-bot',
      apiSecret,
      passphrase: 'p-bot',
      privateKey,
    })
    await cli.purser.rpc('credentials.store', {
      userId: 'signer',
      apiKey: 'k-signer',
      apiSecret,
      privateKey: `0x${'02'.repeat(32)}`,
      privateKeyPolicy: 'sign-only',
    })
    await cli.purser.rpc('credentials.store', { userId: 'keyless', apiKey: 'k-keyless', apiSecret })
  })
  afterAll(() => cli.purser.stop())

  const sh = (script: string, ...options: string[]) =>
    cli.run(['exec', '--user', 'bot', '--quiet', ...options, '--', 'sh', '-c', script])

  test('gives the secrets under the names that bots use, and says what that means', async () => {
    const result = await cli.run(['exec', '--user', 'bot', '--', ...printEnv], {
      env: { FROM_CALLER: 'yes', VAULT_TOKEN: 'v', PURSER_DATA_DIR: '/d', NODE_OPTIONS: '' },
    })
    expect(result.code).toBe(0)
    const env = JSON.parse(result.stdout) as Record<string, string>
    expect(env).toMatchObject({
      POLY_API_KEY: 'k-bot',
      CLOB_SECRET: apiSecret,
      POLYMARKET_API_PASSPHRASE: 'p-bot',
      PK: privateKey,
      PRIVATE_KEY: privateKey,
      FROM_CALLER: 'yes',
    })
    for (const name of ['VAULT_TOKEN', 'PURSER_DATA_DIR', 'PURSER_SOCKET', 'NODE_OPTIONS'])
      expect(env).not.toHaveProperty(name)
    expect(result.stderr).toContain('purser: credential 1 of bot goes into the environment of')
    expect(result.stderr).toContain('hint: this is the way to move over, not the goal')
    expect(result.stderr).not.toContain(apiSecret)
  })

  test('a sign-only key stays where it is, and that is said', async () => {
    const result = await cli.run(['exec', '--user', 'signer', '--', ...printEnv], {
      env: { PK: 'another wallet' },
    })
    const env = JSON.parse(result.stdout) as Record<string, string>
    expect(env['POLY_API_KEY']).toBe('k-signer')
    expect(env).not.toHaveProperty('PK')
    expect(env).not.toHaveProperty('PRIVATE_KEY')
    expect(result.stderr).toContain('purser: the credential is sign-only')
  })

  test('where there is no private key, that is said too', async () => {
    const result = await cli.run(['exec', '--user', 'keyless', '--', 'true'])
    expect(result).toMatchObject({ code: 0, stdout: '' })
    expect(result.stderr).toContain('purser: the credential has no private key')
  })

  test('--credential and --map', async () => {
    const result = await cli.run([
      'exec',
      '--user',
      'bot',
      '--credential',
      '1',
      '--map',
      'apiKey=BOT_KEY',
      '--quiet',
      '--',
      ...printEnv,
    ])
    expect(JSON.parse(result.stdout)).toMatchObject({ BOT_KEY: 'k-bot', POLY_API_KEY: 'k-bot' })
    expect(result.stderr).toBe('')
  })

  test('options behind -- belong to the command', async () => {
    const result = await cli.run(['exec', '--user', 'bot', '--quiet', '--', 'echo', '--json', '--user', '--'])
    expect(result.stdout).toBe('--json --user --\n')
  })

  test('without -- nothing is retrieved and nothing run', async () => {
    const result = await cli.run(['exec', '--user', 'bot', 'echo', 'x'])
    expect(result).toMatchObject({ code: 64, stdout: '' })
    expect(result.stderr).toContain('hint: purser exec --user USER -- COMMAND ARGS')
  })

  test.each([
    ['exit 0', 0],
    ['exit 7', 7],
    ['kill -TERM $$', 143],
    ['kill -KILL $$', 137],
  ])('%s ends with %i', async (script, code) => {
    expect(await sh(script)).toMatchObject({ code, signal: null, stderr: '' })
  })

  test('a command that is not there is 127, one that cannot be executed 126', async () => {
    const missing = await cli.run(['exec', '--user', 'bot', '--quiet', '--', 'no-such-command-at-all'])
    expect(missing).toMatchObject({
      code: 127,
      stderr: 'purser: no-such-command-at-all: command not found\n',
    })
    const directory = await cli.run(['exec', '--user', 'bot', '--quiet', '--', '/'])
    expect(directory).toMatchObject({ code: 126, stderr: 'purser: /: permission denied\n' })
  })

  test('stdin passes through', async () => {
    const result = await cli.run(['exec', '--user', 'bot', '--quiet', '--', 'cat'], { input: 'hello\n' })
    expect(result).toMatchObject({ code: 0, stdout: 'hello\n' })
  })

  test.each(['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGINT', 'SIGQUIT'] as const)(
    '%s is passed on, and the command decides what follows',
    async (signal) => {
      const script = `
        process.on('${signal}', () => { console.log('got ${signal}'); process.exitCode = 9; clearInterval(timer) })
        const timer = setInterval(() => {}, 1000)
        console.log('ready')`
      const args = ['exec', '--user', 'bot', '--quiet', '--', process.execPath, '-e', script]
      const child = startCli(args, { env: { PURSER_SOCKET: cli.purser.socketPath } })
      const ended = finish(child)
      await new Promise((resolve) => child.stdout?.once('data', resolve))
      child.kill(signal)
      expect(await ended).toMatchObject({ code: 9, signal: null, stdout: `ready\ngot ${signal}\n` })
    },
  )

  test('a refusal runs nothing', async () => {
    const result = await cli.run(['exec', '--user', 'nobody', '--', 'echo', 'ran'])
    expect(result).toMatchObject({ code: 2, stdout: '' })
  })

  test.skipIf(noPty !== null)('the terminal passes through; Ctrl-C reaches the command once', async () => {
    const script = `
      let count = 0
      process.on('SIGINT', () => { count += 1; setTimeout(() => { console.log('interrupts ' + count); process.exit(5) }, 300) })
      setInterval(() => {}, 1000)
      console.log('terminal ' + process.stdin.isTTY)`
    const result = await runOnPty(
      ['exec', '--user', 'bot', '--quiet', '--', process.execPath, '-e', script],
      [['terminal true', '\x03']],
      { PURSER_SOCKET: cli.purser.socketPath },
    )
    expect(result.output).toContain('interrupts 1')
    expect(result).toMatchObject({ code: 5, echo: true, canonical: true })
  })
})
