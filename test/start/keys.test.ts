import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { apiSecret } from '../support/flow.ts'
import { RawClient } from '../support/raw-client.ts'
import { cleanUp, keyFile, type PurserdOptions, refusal, startReady, temporaryDirectory } from './purserd.ts'

cleanUp()

let home: string
let data: string
let base: string[]

beforeEach(() => {
  home = temporaryDirectory()
  data = join(home, 'data')
  base = ['--data-dir', data, '--socket', join(home, 's')]
})

type Given = { readonly args?: string[]; readonly env?: Record<string, string> }

async function session<T>(given: Given, use: (client: RawClient) => Promise<T>): Promise<T> {
  const options: PurserdOptions = { env: { PURSER_KDF_MEMORY_KIB: '8', ...given.env } }
  const purserd = await startReady([...base, ...(given.args ?? [])], home, options)
  const client = new RawClient(join(home, 's'))
  try {
    return await use(client)
  } finally {
    client.close()
    expect(await purserd.stop()).toMatchObject({ code: 0, stderr: '' })
  }
}

function refused(code: number, { args = [], env = {} }: Given): Promise<string> {
  return refusal(code, [...base, ...args], home, { env })
}

async function source(client: RawClient): Promise<string> {
  return (await client.call('system.status')).result.masterKey.source
}

const digest = () =>
  createHash('sha256')
    .update(readFileSync(join(data, 'purser.db')))
    .digest('hex')

describe('each source: a fresh store, a restart, another key', () => {
  const right = randomBytes(32)
  const wrong = randomBytes(32)

  /** How a key is given by each source; a second call gives another key in the same place. */
  const sources: Record<string, (key: Buffer) => Given> = {
    'key file': (key) => ({ args: ['--master-key-file', keyFile(home, key)] }),
    'key file by variable': (key) => ({ env: { PURSER_MASTER_KEY_FILE: keyFile(home, key) } }),
    'key file by settings': (key) => {
      keyFile(home, key)
      writeFileSync(join(home, 'c.toml'), 'key.file = "a.key"')
      return { args: ['--config', join(home, 'c.toml')] }
    },
    'systemd credential': (key) => {
      const directory = join(home, 'credentials')
      mkdirSync(directory, { recursive: true })
      writeFileSync(join(directory, 'master-key'), key.toString('hex'), { mode: 0o444 })
      return { env: { CREDENTIALS_DIRECTORY: directory, STATE_DIRECTORY: data } }
    },
    MASTER_ENCRYPTION_KEY: (key) => ({ env: { MASTER_ENCRYPTION_KEY: key.toString('base64url') } }),
    'data directory': (key) => {
      mkdirSync(data, { recursive: true, mode: 0o700 })
      keyFile(data, key, 'master.key')
      return {}
    },
  }

  test.each(Object.keys(sources))('%s', async (name) => {
    const give = sources[name]!
    const secret = apiSecret(7)
    await session(give(right), async (client) => {
      const stored = await client.call('credentials.store', { userId: 'u', apiKey: 'k', apiSecret: secret })
      expect(stored.error).toBeUndefined()
    })
    const opens = async (client: RawClient) =>
      expect((await client.call('credentials.retrieve', { userId: 'u' })).result.apiSecret).toBe(secret)
    await session(give(right), opens)
    const before = digest()
    expect(await refused(77, give(wrong))).toMatch(
      /^the master key from .+ does not open this store \(it was made with key [0-9a-f]{16}\); configure the master key/,
    )
    expect(digest()).toBe(before)
    await session(give(right), opens)
  })

  test('a generated key is kept and found again; without it the store does not open', async () => {
    await session({}, async (client) => expect(await source(client)).toBe(join(data, 'master.key')))
    const key = readFileSync(join(data, 'master.key'), 'utf8')
    expect(key).toMatch(/^[0-9a-f]{64}\n$/)
    await session({}, async (client) => expect(await source(client)).toBe(join(data, 'master.key')))
    renameSync(join(data, 'master.key'), join(home, 'taken'))
    const before = digest()
    expect(await refused(77, {})).toMatch(/purser.db is there, but no master key is configured; give the key/)
    expect(readdirSync(data)).toEqual(['purser.db'])
    expect(digest()).toBe(before)
    await session({ args: ['--master-key-file', join(home, 'taken')] }, async (client) =>
      expect(await source(client)).toBe(`key file ${join(home, 'taken')}`),
    )
  })

  test('every spelling of one key', async () => {
    const text = [
      right.toString('base64'),
      right.toString('base64url'),
      `${right.toString('base64url')}=`,
      right.toString('hex'),
      ` \t${right.toString('hex').toUpperCase()}\r\n`,
    ]
    const ids = new Set<string>()
    for (const MASTER_ENCRYPTION_KEY of text) {
      await session({ env: { MASTER_ENCRYPTION_KEY } }, async (client) =>
        ids.add((await client.call('system.status')).result.masterKey.keyId),
      )
    }
    expect(ids.size).toBe(1)
  })

  test('the first that is configured, and only that one', async () => {
    const file = keyFile(home, right)
    const fromFile = { args: ['--master-key-file', file] }
    await session(fromFile, source)
    const all = {
      ...fromFile,
      env: {
        MASTER_ENCRYPTION_KEY: wrong.toString('hex'),
        VAULT_ADDR: 'https://v.example',
        ENCRYPTED_MASTER_KEY: 'x',
      },
    }
    await session(all, async (client) => expect(await source(client)).toBe(`key file ${file}`))
    // One that fails never hands over to the next.
    unlinkSync(file)
    const env = { MASTER_ENCRYPTION_KEY: right.toString('hex') }
    expect(await refused(77, { ...fromFile, env })).toMatch(
      /^the key file \S+ does not exist; put the key there/,
    )
    await session({ env }, async (client) => expect(await source(client)).toBe('MASTER_ENCRYPTION_KEY'))
  })
})
