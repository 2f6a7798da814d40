import { afterAll, beforeAll, expect, test } from 'vitest'
import { Story } from './story.ts'

// A method that this version does not have is MethodNotFound, whoever asks, whatever the params, and nothing of it
// is carried out or audited.

let story: Story
beforeAll(async () => {
  story = await Story.begin()
})
afterAll(() => story[Symbol.asyncDispose]())

const notYet = ['sign.order', 'sign.typedData', 'sign.headers', 'sign.clobAuth']
const never = [
  '',
  'credentials',
  'credentials.',
  '.retrieve',
  'credentials.Retrieve',
  'credentials.retrieve ',
  'credentials.retrieve\0',
  'credentials.retrieveAll',
  'constructor',
  '__proto__',
  'toString',
  'hasOwnProperty',
  'rpc.',
  'rpc.describe',
]

test('what the document lists is there', async () => {
  const { methods } = await story.ok('rpc.discover')
  const listed: string[] = methods.map(({ name }: { name: string }) => name)
  expect(listed).toHaveLength(new Set(listed).size)
  for (const name of listed) {
    const answer = await story.main.call(name, { notAMember: 1 })
    expect(answer.error?.data.type, name).toBe('InvalidParams')
  }
  expect(listed.filter((name) => notYet.includes(name))).toEqual([])
})

test.each([...notYet, ...never])('%j', async (method) => {
  const before = await story.headSeq()
  for (const params of [undefined, { userId: 'alice', reason: 'x' }, [], 5]) {
    const error = await story.refused('MethodNotFound', method, params)
    expect(error).toMatchObject({ code: -32601, data: { retryable: false, hint: expect.any(String) } })
  }
  expect(await story.headSeq()).toBe(before)
})
