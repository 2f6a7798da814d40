import { chmodSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isRoot, OtherCaller } from '../support/other-caller.ts'
import { Story } from './story.ts'

// Real processes with real supplementary groups.

const [uid, gid] = [54_351, 54_352]
const [first, second, third] = [54_361, 54_362, 54_363]

if (!isRoot) console.warn('skipped: only root can start a process of a second uid')

describe.skipIf(!isRoot)('a caller in several groups', () => {
  let story: Story
  const callers: OtherCaller[] = []
  beforeAll(async () => {
    story = await Story.begin({ config: { socket: { mode: '0666' } } })
    chmodSync(story.purser.directory, 0o711)
  })
  afterAll(async () => {
    for (const caller of callers) caller.close()
    await story?.[Symbol.asyncDispose]()
  })

  const add = (name: string, told: object) =>
    story.ok('clients.add', { name, users: '*', scopes: ['spend'], ...told })

  async function identityOf(groups: readonly number[]): Promise<{ role: string; client: string | null }> {
    const caller = new OtherCaller(story.purser.socketPath, { uid, gid, groups })
    callers.push(caller)
    return (await caller.call('session.hello', {})).result.identity
  }

  test('has the entry of the group that was added first, primary or supplementary', async () => {
    await add('second', { gid: second })
    await add('first', { gid: first })
    await add('uid and group', { uid, gid: third })
    const told = async (...groups: number[]) => (await identityOf(groups)).client
    expect(await told()).toBeNull()
    expect(await told(first)).toBe('first')
    expect(await told(first, second)).toBe('second')
    expect(await told(second, first)).toBe('second')
    // All that an entry names must match, and a uid's comes before any group's.
    expect(await told(third, second)).toBe('uid and group')
    const { clientId } = await add('primary', { gid })
    expect(await told()).toBe('primary')
    expect(await told(first)).toBe('first')
    await story.ok('clients.remove', { clientId })
    expect(await identityOf([])).toMatchObject({ role: 'none', client: null })
  })
})
