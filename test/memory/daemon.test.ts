import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { Story } from '../flows/story.ts'
import type { RawClient } from '../support/raw-client.ts'
import { type Copies, Secrets } from './scan.ts'
import { keysOf } from './stored-keys.ts'

/**
 * Counts every secret of a running daemon in its memory, before a seal and after it. What must be there while unsealed:
 * the master key once, each opened credential once (both in locked memory), and the two MAC keys.
 */

const noRoot =
  process.getuid?.() === 0 ? null : 'only root can look into the memory of a process that is not dumpable'
if (noRoot !== null) console.warn(`the memory of the running daemon is not scanned: ${noRoot}`)

/** What one credential is made of, random and recognisable. */
type Sample = { apiKey: string; apiSecret: string; passphrase: string; privateKey: string }

function sample(): Sample {
  const privateKey = randomBytes(32)
  privateKey[0] = 1
  return {
    apiKey: crypto.randomUUID(),
    apiSecret: `${randomBytes(32).toString('base64url')}=`,
    // What JSON has to escape, so that it is spelt otherwise in a frame than in memory.
    passphrase: `${randomBytes(12).toString('hex')}"\\\n\u00e9${randomBytes(8).toString('hex')}`,
    privateKey: `0x${privateKey.toString('hex')}`,
  }
}

function watch(secrets: Secrets, name: string, { apiSecret, passphrase, privateKey }: Sample): void {
  const key = Buffer.from(privateKey.slice(2), 'hex')
  secrets
    .add(`${name} apiSecret`, apiSecret)
    // What the text encodes: nobody decodes it, so nothing of it may be there.
    .alsoAs(`${name} apiSecret`, Buffer.from(apiSecret, 'base64url'))
    .add(`${name} passphrase`, passphrase)
    .alsoAs(`${name} passphrase`, JSON.stringify(passphrase).slice(1, -1))
    .add(`${name} privateKey`, key)
    // OpenSSL's numbers are little-endian.
    .alsoAs(`${name} privateKey`, Buffer.from(key).reverse())
}

/** What of `found` is not as `expected` says: raw copies by name, else none; encoded ones never. */
function strays(found: Record<string, Copies>, expected: Record<string, number>): Record<string, Copies> {
  return Object.fromEntries(
    Object.entries(found).filter(
      ([name, copies]) => copies.raw !== (expected[name] ?? 0) || copies.encoded !== 0,
    ),
  )
}

function opened(...names: string[]): Record<string, number> {
  const parts = ['apiSecret', 'passphrase', 'privateKey']
  return Object.fromEntries(names.flatMap((name) => parts.map((part) => [`${name} ${part}`, 1])))
}

/** Requests that are refused, cut short or are no requests, each with every secret of `wrong` in it. */
async function sendWrong(story: Story, wrong: Sample): Promise<void> {
  const { apiSecret, passphrase, privateKey } = wrong
  const members = JSON.stringify({ userId: 'mallory', ...wrong }).slice(1, -1)
  const call = (method: string, params: string, id = 1) =>
    `{"jsonrpc":"2.0","id":${id},"method":"${method}","params":{${params}}}`
  const lines = [
    call('credentials.store', `${members},"unknown":1`),
    call('credentials.store', `${members},"apiSecret":"${apiSecret}"`),
    call('credentials.store', members.replace('apiSecret', '\\u0061piSecret')),
    call('credentials.store', members.replace(apiSecret, `${apiSecret}\\ud800`)),
    call('credentials.replace', `${members},"credentialId":999`),
    call('no.such.method', members),
    call('system.ping', members),
    call('system.unseal', `"masterKey":"${apiSecret}"`),
    `[${call('credentials.store', `${members},"x":1`)},${call('session.hello', `"token":"${apiSecret}","x":1`, 2)}]`,
    call('credentials.store', members).slice(0, -1),
    call('credentials.store', members).replace(apiSecret, `${apiSecret}\\x`),
    `{"jsonrpc":"1.0","id":1,"method":"credentials.store","params":{${members}}}`,
  ]
  for (const line of lines) {
    const client = story.connect()
    // In two pieces: the first waits in memory for the second.
    client.send(line.slice(0, line.length / 2))
    await delay(2)
    client.send(`${line.slice(line.length / 2)}\n`)
    await client.answer()
    client.close()
  }
  const long = story.connect()
  long.send(call('credentials.store', `${members},"name":"${'n'.repeat(70_000)}"`))
  long.send('\n')
  await long.ended()
  const unfinished = story.connect()
  unfinished.send(call('credentials.store', members))
  await delay(20)
  unfinished.close()
  expect([passphrase, privateKey].every((text) => text.length > 0)).toBe(true)
}

/** Warm retrieves one by one, pipelined, in a batch, and by a client that goes without taking its answers. */
async function retrieveOften(story: Story, userId: string): Promise<void> {
  const line = (id: number) =>
    JSON.stringify({ jsonrpc: '2.0', id, method: 'credentials.retrieve', params: { userId } })
  for (let times = 0; times < 20; times++) await story.ok('credentials.retrieve', { userId })
  const client: RawClient = story.connect()
  client.send(Array.from({ length: 200 }, (_, id) => `${line(id)}\n`).join(''))
  for (let times = 0; times < 200; times++) await client.answer()
  client.send(`[${Array.from({ length: 50 }, (_, id) => line(id)).join(',')}]\n`)
  await client.answer()
  const greedy = story.connect()
  greedy.socket.pause()
  greedy.send(Array.from({ length: 5000 }, (_, id) => `${line(id)}\n`).join(''))
  await delay(300)
  greedy.close()
  client.close()
  await delay(50)
}

describe.skipIf(noRoot !== null).each([
  ['with machine code', '0'],
  ['without (--jitless)', '1'],
])('the memory of a daemon that runs %s', (_, jitless) => {
  test('holds of each secret what it must while unsealed, and nothing after a seal', {
    timeout: 60_000,
  }, async () => {
    const directory = mkdtempSync(join(tmpdir(), 'purser-scan-'))
    const masterKey = randomBytes(32)
    await using story = await Story.begin({ masterKey, env: { PURSER_JITLESS: jitless } })
    const { pid } = story.purser
    const secrets = new Secrets()
    const [alice, bob, bobBefore, carol, wrong] = [sample(), sample(), sample(), sample(), sample()]
    const wrongKey = randomBytes(32)
    for (const [name, of] of Object.entries({ alice, bob, bobBefore, carol, wrong })) watch(secrets, name, of)
    secrets.add('master key', masterKey).add('wrong master key', wrongKey)
    // Strings, as the README says: counted and printed, not required to be gone.
    const apiKeys = new Secrets().add('alice apiKey', alice.apiKey).add('wrong apiKey', wrong.apiKey)
    let backups = 0
    /** Adds the keys of every envelope there is now: a later one has another salt and so another key. */
    const noteKeys = async () => {
      const path = join(directory, `${++backups}.db`)
      await story.ok('backup.create', { path })
      for (const [name, key] of Object.entries(keysOf(path, masterKey)))
        if (name.startsWith('kek')) secrets.add(`${name}, backup ${backups}`, key)
        else if (!secrets.names.includes(name)) secrets.add(name, key)
    }
    const always = { 'master key': 1, auditKey: 1, fingerprintKey: 1 }
    const look = async (expected: Record<string, number>) => {
      // An answer is here before the write that sent it has returned and its frame is wiped.
      await story.ok('system.ping')
      const found = secrets.in(pid)
      expect(strays(found, expected)).toEqual({})
      return found
    }
    try {
      await story.ok('credentials.store', { userId: 'alice', ...alice })
      const { credentialId } = await story.ok('credentials.store', { userId: 'bob', ...bobBefore })
      await story.ok('credentials.store', { userId: 'carol', ...carol })
      await noteKeys()
      // Stored and not opened: nothing of them is left.
      await look(always)

      for (const userId of ['alice', 'bob', 'carol'])
        expect(await story.ok('credentials.retrieve', { userId })).toMatchObject({ expiresAt: null })
      await look({ ...always, ...opened('alice', 'bobBefore', 'carol') })
      await retrieveOften(story, 'alice')
      await look({ ...always, ...opened('alice', 'bobBefore', 'carol') })

      await story.ok('credentials.replace', { userId: 'bob', credentialId, ...bob })
      await story.ok('credentials.rotate', { userId: 'carol' })
      await noteKeys()
      await look({ ...always, ...opened('alice') })
      await story.ok('credentials.retrieve', { userId: 'bob' })
      await story.ok('credentials.retrieve', { userId: 'carol' })
      await look({ ...always, ...opened('alice', 'bob', 'carol') })

      await sendWrong(story, wrong)
      await story.refused('WrongMasterKey', 'system.unseal', { masterKey: wrongKey.toString('base64') })
      // The right one, of a daemon that has it.
      await story.ok('system.unseal', { masterKey: masterKey.toString('hex') })
      const before = await look({ ...always, ...opened('alice', 'bob', 'carol') })

      const stringsBefore = apiKeys.in(pid)
      const sealed = await story.ok('system.seal')
      expect(sealed).toMatchObject({ sealed: true })
      const after = await look({})
      console.log(
        JSON.stringify({
          jitless,
          fragments: { before: fragmentsOf(before), after: fragmentsOf(after) },
          apiKeys: { before: stringsBefore, after: apiKeys.in(pid) },
        }),
      )
      await story.refused('WrongMasterKey', 'system.unseal', { masterKey: wrongKey.toString('base64url') })
      await story.refused('Sealed', 'credentials.store', { userId: 'dave', ...wrong })
      await look({})

      await story.ok('system.unseal', { masterKey: masterKey.toString('base64') })
      await look(always)
      await story.ok('credentials.retrieve', { userId: 'alice' })
      await look({ ...always, ...opened('alice') })
      await story.ok('system.seal')
      await look({})
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})

function fragmentsOf(found: Record<string, Copies>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(found)
      .filter(([, { fragments }]) => fragments > 0)
      .map(([name, { fragments }]) => [name, fragments]),
  )
}
