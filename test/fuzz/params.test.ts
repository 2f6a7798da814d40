import fc from 'fast-check'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { methods } from '../../src/rpc/methods/index.ts'
import { secretMemberNames } from '../../src/transport/secret-json.ts'
import { Story, testSeed, until } from '../flows/story.ts'
import { type JsonSchema, misfit } from '../rpc/json-schema.ts'
import type { DescribedMethod, OpenRpcDocument } from '../rpc/open-rpc-checker.ts'
import { apiSecret } from '../support/flow.ts'
import type { Answer } from '../support/raw-client.ts'
import { lines, request } from '../transport/wire.ts'
import { keyOfAnswer } from './frame-oracle.ts'
import { anyParams } from './params-maker.ts'

// Params of every method, made from its own schema: fitting, nearly fitting and odd ones, against a real daemon.

const seed = testSeed()
const runs = Number(process.env['PURSER_TEST_FUZZ_FRAMES'] ?? 0) > 200_000 ? 5000 : 400

vi.setConfig({ testTimeout: 30_000 + 20 * runs })

/** They walk all of the audit log, which the others fill; or wipe memory, and wait a second for a wrong key. */
const slow = ['audit.verify', 'audit.failures', 'system.seal', 'system.unseal']

let story: Story
let document: OpenRpcDocument
beforeAll(async () => {
  story = await Story.begin({ args: ['--log-level', 'error'], config: { decrypt: { limit: 100_000 } } })
  document = await story.ok('rpc.discover')
  for (const userId of ['alice', '0']) for (const fill of [1, 2, 3]) await story.store(userId, fill)
})
afterAll(() => story[Symbol.asyncDispose]())

/** Params as they are sent, with users and credentials that exist often enough. */
function aimed(method: string, params: unknown, n: number): unknown {
  const sent = JSON.parse(JSON.stringify(params)) as unknown
  if (typeof sent !== 'object' || sent === null || Array.isArray(sent)) return sent
  const members = sent as Record<string, unknown>
  if ('userId' in members && n % 3 > 0) members['userId'] = ['alice', 0, '0'][n % 3]
  if ('credentialId' in members && n % 2 > 0) members['credentialId'] = 1 + (n % 6)
  // By themselves most secrets would not have the form they need, nor would both expiries go together.
  if ('apiSecret' in members && n % 2 > 0) {
    members['apiSecret'] = apiSecret(n % 256)
    delete members['privateKey']
    delete members['expiresAt']
  }
  // A backup only where none can be made.
  if (method === 'backup.create') {
    const { path = null } = members
    if (typeof path === 'string') members['path'] = path.replace(/^\/+/, '')
    else if (path === null) members['path'] = '/no-such-directory/backup'
  }
  return members
}

/** Whether `params` hold a secret of some length that `text` holds too, and not because a member has that very name. */
function isEchoed(params: unknown, text: string): boolean {
  if (typeof params !== 'object' || params === null) return false
  const secrets = Object.entries(params).filter(([name]) => secretMemberNames.has(name))
  const names = new Set<string>()
  JSON.stringify(params, (name, value) => {
    names.add(name)
    return value
  })
  return secrets.some(
    ([, value]) =>
      typeof value === 'string' &&
      value.length > 8 &&
      !names.has(value) &&
      text.includes(JSON.stringify(value).slice(1, -1)),
  )
}

function paramsSchema({ params }: DescribedMethod): JsonSchema {
  return {
    type: 'object',
    properties: Object.fromEntries(params.map(({ name, schema }) => [name, schema])),
    required: params.filter(({ required }) => required).map(({ name }) => name),
    additionalProperties: false,
  }
}

/** The answers to `all`, each a call of `method`; where a session.hello with a token ends the connection, a new one follows. */
async function answersTo(method: string, all: readonly unknown[]): Promise<Answer[]> {
  if (method === 'session.hello') {
    const answers: Answer[] = []
    for (const params of all) {
      const client = story.connect()
      answers.push(await client.call(method, params, answers.length))
      client.close()
    }
    return answers
  }
  const client = story.connect()
  client.send(lines(...all.map((params, n) => request(n, method, params))))
  await until(() => client.answers.length >= all.length, 60_000)
  client.close()
  return client.answers.flat().sort((a, b) => Number(a.id) - Number(b.id))
}

test.each(methods.map(({ name }) => name))('%s', async (name) => {
  const says = document.methods.find((method) => method.name === name)!
  const all = fc
    .sample(anyParams(says), { seed, numRuns: slow.includes(name) ? 20 : runs })
    .map((params, n) => aimed(name, params, n))
  const answers = await answersTo(name, all)
  let taken = 0
  try {
    for (const [n, answer] of answers.entries()) {
      const sent = all[n]
      const about = `${JSON.stringify(sent)}: ${JSON.stringify(answer)}`
      // Throws for what no client may bring about.
      expect(keyOfAnswer(JSON.stringify(answer))).toBe(String(n))
      const wrong = misfit(paramsSchema(says), sent)
      if (answer.error?.code === -32602) {
        expect(answer.error.data.issues.length, about).toBeGreaterThan(0)
        for (const issue of answer.error.data.issues)
          expect(issue, about).toEqual({ path: expect.any(String), message: expect.any(String) })
      } else {
        expect(wrong, about).toBeNull()
        taken++
      }
      if (answer.error !== undefined) expect(isEchoed(sent, JSON.stringify(answer.error)), about).toBe(false)
      else expect(misfit(says.result.schema, answer.result), about).toBeNull()
    }
    // A backup is only tried where none can be made.
    if (name !== 'backup.create') expect(taken).toBeGreaterThan(all.length / 50)
    // What comes behind it is not to be Sealed, whatever it was given.
    if (name === 'system.unseal') await story.ok('system.unseal')
  } catch (error) {
    console.error(`PURSER_TEST_SEED=${seed}`)
    throw error
  }
})

test('nothing of it was an internal error, and the audit log is whole', async () => {
  expect(story.purser.logs().filter((line) => line.includes('"level":50'))).toEqual([])
  await story.chainHolds()
})
