import { expect, test } from 'vitest'
import { Story } from './story.ts'

const spend = { users: ['alice'], scopes: ['spend'] }

test('the ready line says whether a uid other than the daemon’s is between', async () => {
  await using other = await Story.begin()
  const boundary = async () => {
    await other.restart()
    return other.purser.ready.boundary
  }
  expect(other.purser.ready.boundary).toBe('none')
  await other.ok('clients.add', { ...spend, name: 'token', token: true })
  await other.ok('clients.add', { ...spend, name: 'own', uid: process.getuid!() })
  await other.ok('clients.add', { ...spend, name: 'own group', gid: process.getgid!() })
  expect(await boundary()).toBe('none')
  const { clientId } = await other.ok('clients.add', { ...spend, name: 'bot', uid: 4000 })
  expect(await boundary()).toBe('uid')
  await other.ok('clients.update', { clientId, expiresAt: '2020-01-01T00:00:00Z' })
  expect(await boundary()).toBe('none')
  await other.ok('clients.add', { ...spend, name: 'bots', gid: 4000 })
  expect(await boundary()).toBe('uid')
})
