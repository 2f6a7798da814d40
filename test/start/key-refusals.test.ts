import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { RawClient } from '../support/raw-client.ts'
import {
  cleanUp,
  keyFile,
  otherUid,
  type PurserdOptions,
  refusal,
  startReady,
  temporaryDirectory,
} from './purserd.ts'

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

describe('a key that is none is 78 and never shown', () => {
  const bad = 'aGFsZi1hLWtleS10aGF0LW11c3Qtbm90LXNob3c='

  test.each<[string, () => Given]>([
    [
      'a key file',
      () => {
        writeFileSync(join(home, 'bad'), bad, { mode: 0o600 })
        return { args: ['--master-key-file', join(home, 'bad')] }
      },
    ],
    ['the environment', () => ({ env: { MASTER_ENCRYPTION_KEY: bad } })],
    ['the environment, empty', () => ({ env: { MASTER_ENCRYPTION_KEY: '' } })],
    [
      'a systemd credential',
      () => {
        writeFileSync(join(home, 'master-key'), `${randomBytes(32).toString('hex')} ${bad}`)
        return { env: { CREDENTIALS_DIRECTORY: home } }
      },
    ],
    [
      'the data directory',
      () => {
        mkdirSync(data, { mode: 0o700 })
        writeFileSync(join(data, 'master.key'), '', { mode: 0o600 })
        return {}
      },
    ],
  ])('%s', async (_, give) => {
    const told = await refused(78, give())
    expect(told).toMatch(/ holds no master key; it must be 32 bytes as base64, base64url or hex/)
    expect(told).not.toContain(bad)
    expect(existsSync(join(data, 'purser.db'))).toBe(false)
  })
})

describe('a source that fails is 77', () => {
  test('a key file that is missing, open to others, no file, or somebody else’s', async ({ skip }) => {
    const path = keyFile(home)
    const given = { args: ['--master-key-file', path] }
    for (const mode of [0o604, 0o620, 0o602, 0o601, 0o630]) {
      chmodSync(path, mode)
      const told = `the key file ${path} is open to others (mode 0${mode.toString(8)}); chmod it to 0600, or 0640 for a group of its own`
      expect(await refused(77, given)).toBe(told)
    }
    unlinkSync(path)
    expect(await refused(77, given)).toMatch(/does not exist; put the key there or name its file/)
    symlinkSync(join(home, 'gone'), path)
    expect(await refused(77, given)).toMatch(/does not exist; /)
    expect(await refused(77, { args: ['--master-key-file', home] })).toMatch(/is not a regular file; /)
    const uid = otherUid(skip)
    const other = keyFile(home, randomBytes(32), 'other')
    chownSync(other, uid, uid)
    expect(await refused(77, { args: ['--master-key-file', other] })).toBe(
      `the key file ${other} belongs to uid ${uid}; chown it to root or to the daemon user`,
    )
  })

  test('a key file that the group may read, and a link to one, are fine', async () => {
    const path = keyFile(home)
    chmodSync(path, 0o640)
    symlinkSync(path, join(home, 'link'))
    await session({ args: ['--master-key-file', join(home, 'link')] }, source)
  })

  test('a key in the data directory that others may read', async () => {
    mkdirSync(data, { mode: 0o700 })
    chmodSync(keyFile(data, randomBytes(32), 'master.key'), 0o644)
    expect(await refused(77, {})).toMatch(/master.key is open to others \(mode 0644\); /)
  })

  test.each(['CREDENTIALS_DIRECTORY', 'STATE_DIRECTORY', 'NOTIFY_SOCKET'])(
    'no key at all under systemd (%s)',
    async (variable) => {
      expect(await refused(77, { env: { [variable]: join(home, 'x') } })).toMatch(
        new RegExp(
          `^no master key is configured, and under systemd \\(${variable} is set\\) none is generated; make`,
        ),
      )
      expect(readdirSync(data)).toEqual([])
    },
  )

  test('a file of root that the daemon’s user may not read', async ({ skip }) => {
    const uid = otherUid(skip)
    chmodSync(home, 0o711)
    const own = join(home, 'own')
    mkdirSync(own, { mode: 0o700 })
    chownSync(own, uid, uid)
    const key = keyFile(home)
    const args = ['--data-dir', join(own, 'd'), '--socket', join(own, 's'), '--master-key-file', key]
    expect(await refusal(77, args, own, { spawn: { uid, gid: uid } })).toBe(
      `the key file ${key} cannot be opened (EACCES); let the daemon user read it`,
    )
  })
})
