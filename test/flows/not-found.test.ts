import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { apiSecret } from '../support/flow.ts'
import { Story } from './story.ts'

// An id that is not the user's is NotFound, in the very bytes of one that never was: nobody can probe for ids.

let story: Story
/** A credential of bob's, and an id nobody ever had. */
let ofBob = 0
const never = 4711

beforeAll(async () => {
  story = await Story.begin()
  await story.store('alice', 1)
  ofBob = await story.store('bob', 2)
  await story.ok('users.put', { userId: 'without-any' })
})
afterAll(() => story[Symbol.asyncDispose]())

const secrets = { apiKey: 'new', apiSecret: apiSecret(9) }

/** Methods that name a credential, with what else they need. */
const namingOne: [string, Record<string, unknown>][] = [
  ['credentials.retrieve', {}],
  ['credentials.get', {}],
  ['credentials.update', { name: 'n' }],
  ['credentials.update', { privateKeyPolicy: 'sign-only' }],
  ['credentials.update', { isPrimary: true }],
  ['credentials.revoke', {}],
  ['credentials.replace', secrets],
  ['credentials.rotate', {}],
]

describe.each(namingOne)('%s %j', (method, more) => {
  test("another user's credential and one that never was", async () => {
    const answers = []
    for (const credentialId of [ofBob, never]) {
      answers.push(await line(method, { userId: 'alice', credentialId, ...more }))
    }
    expect(answers[0]).toBe(answers[1])
    expect(JSON.parse(answers[0]!)).toMatchObject({
      error: { code: 2001, data: { type: 'NotFound', retryable: false, resource: 'credential' } },
    })
  })

  test('a user without any credential', async () => {
    const error = await story.refused('NotFound', method, {
      userId: 'without-any',
      credentialId: ofBob,
      ...more,
    })
    expect(error.data.resource).toBe('credential')
  })

  test('an unknown user', async () => {
    const error = await story.refused('NotFound', method, { userId: 'nobody', credentialId: ofBob, ...more })
    expect(error.data.resource).toBe('user')
  })
})

test.each([
  ['credentials.retrieve', 'credential'],
  ['credentials.rotate', 'credential'],
])('%s without an id, for a user without any credential', async (method, resource) => {
  const error = await story.refused('NotFound', method, { userId: 'without-any' })
  expect(error.data.resource).toBe(resource)
})

test.each([
  'credentials.retrieve',
  'credentials.rotate',
  'credentials.list',
  'users.get',
  'users.resetDecryptions',
])('%s for an unknown user', async (method) => {
  const error = await story.refused('NotFound', method, { userId: 'nobody' })
  expect(error.data).toMatchObject({ resource: 'user' })
})

test('audit.verify from behind the end', async () => {
  expect((await story.refused('NotFound', 'audit.verify', { fromSeq: 1_000_000 })).data.resource).toBe(
    'entry',
  )
})

test("bob's credential came to no harm, and a user is an exact string", async () => {
  expect(await story.ok('credentials.retrieve', { userId: 'bob' })).toMatchObject({ apiKey: 'key-2' })
  await story.refused('NotFound', 'credentials.retrieve', { userId: 'BOB' })
  await story.refused('NotFound', 'credentials.retrieve', { userId: 'bob.' })
})

test('a number is the user of its decimal string', async () => {
  const credentialId = await story.store('7', 70)
  const seven = { userId: 7, credentialId }
  expect(await story.ok('credentials.get', seven)).toMatchObject({ userId: '7' })
  await story.refused('NotFound', 'credentials.get', { ...seven, userId: '07' })
})

/** The bytes of an answer. */
async function line(method: string, params: unknown): Promise<string> {
  const client = story.connect()
  let text = ''
  client.socket.on('data', (data) => {
    text += data
  })
  await client.call(method, params, 'the same id')
  client.close()
  return text
}
