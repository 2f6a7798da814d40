import { existsSync, statSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { startPurser } from '../../src/testing/index.ts'

// A real daemon: `npm run build` comes first.
describe('startPurser', () => {
  test('gives a daemon that answers, with everything in its own directory', async () => {
    await using purser = await startPurser()
    expect(statSync(purser.directory).mode & 0o777).toBe(0o700)
    expect(purser.ready).toMatchObject({ msg: 'ready', socket: purser.socketPath })
    expect(existsSync(`${purser.dataDirectory}/purser.db`)).toBe(true)
    expect(await purser.rpc('system.ping')).toMatchObject({ pong: true })
    const client = await purser.client({ client: 'test/1' })
    expect(client.hello).toMatchObject({ protocol: 1, identity: { role: 'admin', pid: process.pid } })
    const status = await client.system.status()
    expect(status.version).toEqual(expect.any(String))
  })

  test('keeps what was stored through restart and kill', async () => {
    await using purser = await startPurser({ fastKdf: true })
    const apiSecret = Buffer.from('a secret').toString('base64url')
    const { credentialId } = await purser.rpc('credentials.store', {
      userId: 'alice',
      apiKey: 'key',
      apiSecret,
    })
    const client = await purser.client()
    for (const end of [() => Promise.resolve(), () => purser.kill('SIGKILL')]) {
      await end()
      await purser.restart()
      const credential = await client.credentials.retrieve(
        { userId: 'alice', credentialId },
        { resend: true },
      )
      expect(Buffer.from(credential.apiSecret, 'base64url').toString()).toBe('a secret')
    }
  })

  test('any number side by side', async () => {
    const pursers = await Promise.all([1, 2, 3].map(() => startPurser({ fastKdf: true })))
    try {
      await Promise.all(pursers.map((purser) => purser.rpc('users.put', { userId: `of-${purser.pid}` })))
      for (const purser of pursers) {
        const { users } = await purser.rpc('users.list')
        expect(users.map((user) => user.userId)).toEqual([`of-${purser.pid}`])
      }
      expect(new Set(pursers.map((purser) => purser.masterKey)).size).toBe(3)
    } finally {
      await Promise.all(pursers.map((purser) => purser.stop()))
    }
  })

  test('takes settings, variables and arguments', async () => {
    await using purser = await startPurser({
      config: { tiers: { tiny: { per_trade: '1', daily: '2', exposure: '3' } } },
      env: { PURSER_CREDENTIALS_MAX_PER_USER: '1' },
      args: ['--log-level', 'debug'],
    })
    const user = await purser.rpc('users.put', { userId: 'alice', tier: 'tiny' })
    expect(user.limits).toEqual({ perTradeUsd: '1.00', dailyUsd: '2.00', exposureUsd: '3.00' })
  })

  test('a bad setting fails with the exit code and the line that names it', async () => {
    const started = startPurser({ config: 'nonsense = 1' })
    await expect(started).rejects.toMatchObject({ name: 'StartPurserError', exitCode: 78 })
    await expect(started).rejects.toThrow(/nonsense/)
  })

  test('a wrong master key fails with 77', async () => {
    await using purser = await startPurser({ fastKdf: true })
    await purser.kill('SIGTERM')
    const started = startPurser({ dataDirectory: purser.dataDirectory })
    await expect(started).rejects.toMatchObject({ name: 'StartPurserError', exitCode: 77 })
  })
})
