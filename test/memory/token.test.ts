import { expect, test } from 'vitest'
import { methods } from '../../src/rpc/methods/index.ts'
import { Story } from '../flows/story.ts'
import { Secrets } from './scan.ts'

const missing =
  process.getuid?.() !== 0
    ? 'only root can look into the memory of a process that is not dumpable'
    : methods.every(({ name }) => name !== 'clients.add')
      ? 'this purser hands out no tokens'
      : null
if (missing !== null) console.warn(`what a token leaves in memory is not tested: ${missing}`)

test.skipIf(missing !== null)(
  'a token is nowhere in memory, neither when it was made nor once it was presented',
  { timeout: 30_000 },
  async () => {
    await using story = await Story.begin()
    await story.store('alice', 1)
    const { token } = await story.ok('clients.add', {
      name: 'bot',
      token: true,
      users: ['alice'],
      scopes: ['credentials:read'],
    })
    // The text, the bytes it stands for, and one that nobody was given.
    const wrong = `prs_${Buffer.alloc(32, 'wrong token ').toString('base64url')}`
    const secrets = new Secrets().add('token', token).add('token of nobody', wrong)
    secrets.alsoAs('token', Buffer.from(token.slice('prs_'.length), 'base64url'))
    const look = async () => {
      await story.ok('system.ping')
      for (const [name, { raw, encoded }] of Object.entries(secrets.in(story.purser.pid)))
        expect({ name, raw, encoded }).toEqual({ name, raw: 0, encoded: 0 })
    }
    await look()
    for (let times = 0; times < 50; times++) {
      const client = story.connect()
      expect((await client.call('session.hello', { token })).result).toBeDefined()
      expect((await client.call('credentials.retrieve', { userId: 'alice' })).result).toBeDefined()
      client.close()
    }
    for (const params of [{ token: wrong }, { token: `${token}x` }, { token, x: 1 }]) {
      const client = story.connect()
      expect((await client.call('session.hello', params)).error).toBeDefined()
      client.close()
    }
    await look()
  },
)
