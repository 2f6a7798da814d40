import { describe, expect, test } from 'vitest'
import { childEnvironment, losesNodeOptions } from '../../src/cli/child-env.ts'
import { botNames, secretFields } from '../../src/cli/input/bot-names.ts'

const secrets = { apiKey: 'k', apiSecret: 's', passphrase: 'p', privateKey: '0x1' }

describe('childEnvironment', () => {
  test('gives every secret under every name that bots use', () => {
    const env = childEnvironment({ PATH: '/bin' }, secrets)
    expect(env['PATH']).toBe('/bin')
    for (const field of secretFields)
      for (const name of botNames[field]) expect(env[name]).toBe(secrets[field])
  })

  test("takes away purser's own, its key sources, and what a service manager handed to it", () => {
    const parent = {
      PURSER_SOCKET: '/s',
      PURSER_DATA_DIR: '/d',
      MASTER_ENCRYPTION_KEY: 'm',
      ENCRYPTED_MASTER_KEY: 'm',
      AWS_KMS_KEY_ID: 'm',
      VAULT_ADDR: 'v',
      VAULT_TOKEN: 'v',
      CREDENTIALS_DIRECTORY: '/c',
      LISTEN_FDS: '1',
      LISTEN_PID: '2',
      LISTEN_FDNAMES: 'purser',
      NOTIFY_SOCKET: '/n',
      NODE_OPTIONS: '--inspect',
      GLIBC_TUNABLES: 'x',
      UV_USE_IO_URING: '0',
    }
    const env = childEnvironment({ ...parent, AWS_REGION: 'eu', HOME: '/h' }, {})
    expect(env).toEqual({ AWS_REGION: 'eu', HOME: '/h' })
  })

  test('gives back what the launcher kept, but nothing that is taken away', () => {
    const env = childEnvironment(
      {
        GLIBC_TUNABLES: 'launcher',
        PURSER_CALLER_GLIBC_TUNABLES: 'caller',
        PURSER_CALLER_NODE_PATH: '/lib',
        PURSER_CALLER_NODE_OPTIONS: '--inspect',
        PURSER_CALLER_VAULT_TOKEN: 'v',
        PURSER_CALLER_: 'x',
      },
      {},
    )
    expect(env).toEqual({ GLIBC_TUNABLES: 'caller', NODE_PATH: '/lib' })
  })

  test('a field without a value is absent, also where the caller had one', () => {
    const { privateKey: _key, ...rest } = secrets
    const env = childEnvironment({ PK: 'another wallet', PRIVATE_KEY: 'another wallet', MINE: 'x' }, rest, {
      privateKey: 'MINE',
    })
    for (const name of [...botNames.privateKey, 'MINE']) expect(name in env).toBe(false)
    expect(env['POLY_API_KEY']).toBe('k')
  })

  test('a mapped name is given beside the common ones', () => {
    const env = childEnvironment({}, secrets, { apiSecret: 'BOT_SECRET' })
    expect(env['BOT_SECRET']).toBe('s')
    expect(env['POLY_API_SECRET']).toBe('s')
  })
})

test('losesNodeOptions sees them under either name', () => {
  expect(losesNodeOptions({})).toBe(false)
  expect(losesNodeOptions({ NODE_OPTIONS: '' })).toBe(false)
  expect(losesNodeOptions({ NODE_OPTIONS: '--x' })).toBe(true)
  expect(losesNodeOptions({ PURSER_CALLER_NODE_OPTIONS: '--x' })).toBe(true)
})
