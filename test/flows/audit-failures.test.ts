import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { Story } from './story.ts'

test('audit.failures: users with more than so many retrievals that were not ok, most first', async () => {
  await using story = await Story.begin()
  const fail = async (userId: string, times: number) => {
    for (let n = 0; n < times; n++)
      await story.main.call('credentials.retrieve', { userId, credentialId: 99 })
  }
  await story.store('alice', 1)
  await story.ok('users.put', { userId: 'bob' })
  await fail('alice', 11)
  await fail('bob', 10)
  await fail('nobody', 13)
  await fail('aaron', 11)
  // Neither what went well nor what else was refused counts.
  for (let n = 0; n < 15; n++) await story.ok('credentials.retrieve', { userId: 'alice' })
  for (let n = 0; n < 15; n++)
    await story.main.call('credentials.revoke', { userId: 'bob', credentialId: 99 })

  const most = [
    { userId: 'nobody', failures: 13 },
    { userId: 'aaron', failures: 11 },
    { userId: 'alice', failures: 11 },
  ]
  expect(await story.ok('audit.failures')).toEqual({ users: most })
  expect(await story.ok('audit.failures', { over: 0 })).toEqual({
    users: [...most, { userId: 'bob', failures: 10 }],
  })
  expect(await story.ok('audit.failures', { over: 12 })).toEqual({ users: most.slice(0, 1) })
  expect(await story.ok('audit.failures', { over: 13 })).toEqual({ users: [] })

  // What is older than so many hours does not count: nobody's are made two days old, and one of alice's two hours.
  await story.restart(() => {
    const store = new Database(`${story.purser.dataDirectory}/purser.db`)
    const age = store.prepare(`UPDATE audit SET at_ms = at_ms - ? WHERE seq IN
      (SELECT seq FROM audit WHERE user_id = ? AND outcome <> 'ok' ORDER BY seq LIMIT ?)`)
    age.run(48 * 3_600_000, 'nobody', 13)
    age.run(2 * 3_600_000, 'alice', 1)
    store.close()
  })
  expect(await story.ok('audit.failures')).toEqual({ users: most.slice(1) })
  expect(await story.ok('audit.failures', { hours: 49 })).toEqual({ users: most })
  expect(await story.ok('audit.failures', { hours: 1 })).toEqual({
    users: [{ userId: 'aaron', failures: 11 }],
  })
  expect(await story.ok('audit.failures', { hours: 0.5, over: 9 })).toEqual({
    users: [
      { userId: 'aaron', failures: 11 },
      { userId: 'alice', failures: 10 },
      { userId: 'bob', failures: 10 },
    ],
  })
})
