import { describe, expect, test } from 'vitest'
import { refuseSecretArguments, refuseSecretParams } from '../../../src/cli/input/argv-guard.ts'

const key = `0x${'ab'.repeat(32)}`
const secret = `${Buffer.alloc(32, 250).toString('base64url')}=`
const token = `prs_${'A'.repeat(43)}`

describe('refuseSecretArguments', () => {
  test.each([
    [['credentials', 'add', '--private-key', 'x']],
    [['credentials', 'add', '--private-key=x']],
    [['credentials', 'add', '--privateKey=x']],
    [['credentials', 'add', '--api-secret', 'x']],
    [['credentials', 'add', '--secret=x']],
    [['credentials', 'add', '--passphrase', 'x']],
    [['credentials', 'add', '--pass', 'x']],
    [['--token', 'x', 'status']],
    [['unseal', '--master-key=x']],
    [['credentials', 'add', '--name', key]],
    [['credentials', 'add', '--name', key.slice(2).toUpperCase()]],
    [['credentials', 'add', `--name=${key}`]],
    [['credentials', 'add', '--private-key-env', key]],
    [['users', 'get', secret]],
    [['users', 'get', token]],
    [['spend', 'record', '5', '--trade', key.slice(2)]],
    [['spend', 'record', '5', '--trade', secret]],
    [['spend', 'record', '5', '--trade', token]],
    [['spend', 'record', '5', '--trade', key, key]],
    [['spend', 'record', '5', `--trade=${key}`, key]],
    [['spend', 'record', '5', '--user', key]],
    [['spend', 'void', key, '--reason', key]],
    [['positions', 'close', key]],
    [['--trades', key]],
    [['--trade', '--name', key]],
  ])('refuses %j and repeats no value', (argv) => {
    expect(() => refuseSecretArguments(argv)).toThrow(/secret/)
    try {
      refuseSecretArguments(argv)
    } catch (error) {
      const { message, hint } = error as { message: string; hint: string }
      for (const value of [key, key.slice(2).toUpperCase(), secret, token])
        expect(message + hint).not.toContain(value)
    }
  })

  test.each([
    [['credentials', 'add', '--private-key-env', 'PK', '--user', 'alice', '--stdin']],
    [['credentials', 'add', '--api-key', '693caae5-ab57-147f-b4f8-e102a918d802']],
    [['--token-file', '/etc/purser/token', 'status']],
    [['credentials', 'import', '.env', '--map', 'privateKey=BOT_PK']],
    [['credentials', 'get', '--field', 'privateKey', '--user', 'a']],
    [['rpc', 'system.ping', '-']],
    [['exec', '--user', 'a', '--', 'bot', '--private-key', key]],
    [['spend', 'record', '5', '--user', 'a', '--trade', key]],
    [['spend', 'record', '5', '--user', 'a', `--trade=${key.toUpperCase().replace('X', 'x')}`]],
    [['positions', 'close', '--user', 'a', '--trade', key, '--idempotency-key', key]],
    [['credentials', 'show', '7', '--user', '0x52908400098527886E0F7030069857D2E4169EE7']],
  ])('lets %j pass', (argv) => {
    expect(() => refuseSecretArguments(argv)).not.toThrow()
  })
})

describe('refuseSecretParams', () => {
  test('refuses secret members that hold a string', () => {
    for (const name of ['apiSecret', 'passphrase', 'privateKey', 'masterKey', 'newMasterKey', 'token'])
      expect(() => refuseSecretParams({ userId: 'a', [name]: 'x' })).toThrow(name)
  })

  test('lets flags and other members pass', () => {
    expect(() => refuseSecretParams({ token: true, apiKey: 'x', name: 'y' })).not.toThrow()
  })
})
