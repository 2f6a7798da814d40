import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isRoot } from '../support/other-caller.ts'
import { Story, until } from './story.ts'

// Overload: what a client, a uid and all callers without a grant may hold, as clients come, go and present tokens.

const botUid = 54_400
const strangersMax = 64
const quarterOfConnections = 250
if (!isRoot) console.warn('skipped: only root can start a process of a second uid')

/**
 * A process of `uid` that opens so many connections, sends `text` on each, and tells on stdout how many were answered
 * with a result, how many with an error, and how many were ended, as often as that changes.
 */
const crowd = `
process.setgroups([])
process.setgid(${botUid})
process.setuid(${botUid})
const [path, count, text] = process.argv.slice(1)
const seen = { results: 0, errors: 0, ended: 0 }
let timer = null
const tell = () => { timer ??= setTimeout(() => { timer = null; console.log(JSON.stringify(seen)) }, 10) }
let left = Number(count)
const one = () => {
  if (left-- === 0) return
  const socket = require('node:net').connect(path, one).setEncoding('utf8')
  socket.on('data', (text) => {
    for (const line of text.trim().split('\\n')) seen[JSON.parse(line).error ? 'errors' : 'results']++
    tell()
  })
  socket.on('error', () => undefined).on('end', () => { seen.ended++; tell() })
  socket.write(text)
}
one()
`

type Seen = { results: number; errors: number; ended: number }

describe.skipIf(!isRoot)('a crowd of connections', () => {
  let story: Story
  const crowds: ChildProcess[] = []

  beforeEach(async () => {
    story = await Story.begin({ config: { socket: { mode: '0666' } } })
    chmodSync(dirname(story.purser.socketPath), 0o711)
    await story.ok('users.put', { userId: 'alice' })
  })
  afterEach(async () => {
    for (const one of crowds.splice(0)) one.kill('SIGKILL')
    await story[Symbol.asyncDispose]()
  })

  function come(count: number, request: object): Seen {
    const seen: Seen = { results: 0, errors: 0, ended: 0 }
    const text = `${JSON.stringify(request)}\n`
    const child = spawn(process.execPath, ['-e', crowd, story.purser.socketPath, String(count), text], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    crowds.push(child)
    let rest = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      for (const line of lines) Object.assign(seen, JSON.parse(line))
    })
    return seen
  }
  const hello = (params: object) => ({ jsonrpc: '2.0', id: 1, method: 'session.hello', params })
  const connections = async () => (await story.ok('system.status')).connections.connections as number

  test('by a token is counted as the client, and once that is removed as nobody', async () => {
    const { clientId, token } = await story.ok('clients.add', {
      name: 'bots',
      token: true,
      users: ['alice'],
      scopes: ['spend'],
    })
    const count = 2 * strangersMax
    const seen = come(count, hello({ token }))
    await until(() => seen.results === count)
    expect(seen).toEqual({ results: count, errors: 0, ended: 0 })
    // Without a token it is nobody, and none of those with one gives way.
    const nobody = come(count, hello({}))
    await until(() => nobody.ended === count - strangersMax)
    expect(await connections()).toBe(count + strangersMax + 1)
    expect(seen.ended).toBe(0)
    await story.ok('clients.remove', { clientId })
    await until(async () => (await connections()) === strangersMax + 1)
  })

  test('of one uid holds a quarter, and displaces none but its own', async () => {
    await story.ok('clients.add', { name: 'bot', uid: botUid, users: ['alice'], scopes: ['spend'] })
    const resident = story.connect()
    await story.ok('system.ping', {}, resident)
    const more = 30
    const seen = come(quarterOfConnections + more, hello({}))
    await until(() => seen.ended === more)
    expect(await connections()).toBe(quarterOfConnections + 2)
    expect(seen.errors).toBe(0)
    expect(await story.ok('system.ping', {}, resident)).toMatchObject({ pong: true })
  })

  test('of a client that asks for what it may not is told of up to 600 times a minute, and then as a count', async () => {
    const { clientId } = await story.ok('clients.add', {
      name: 'bot',
      uid: botUid,
      users: ['alice'],
      scopes: ['spend'],
    })
    const before = await story.headSeq()
    const count = 1500
    const text = { jsonrpc: '2.0', id: 1, method: 'users.get', params: { userId: 'alice' } }
    const batch = Array.from({ length: 100 }, () => text)
    for (let n = 0; n < count / 100; n++) come(1, batch)
    await until(async () => (await story.headSeq()) - before >= 600)
    await new Promise((resolve) => setTimeout(resolve, 500))
    await story.restart()
    const told = (await story.entries(before)).filter(({ action }) => action === 'access_denied')
    const counted = told.filter(({ details }) => details['count'] !== undefined)
    expect(counted.length).toBeGreaterThan(0)
    for (const { details } of counted) expect(details['asClient']).toBe(clientId)
    const singly = told.length - counted.length
    // Twice the bound where the minute turned meanwhile.
    expect(singly).toBeGreaterThanOrEqual(600)
    expect(singly).toBeLessThanOrEqual(1200)
    expect(singly + counted.reduce((sum, { details }) => sum + Number(details['count']), 0)).toBe(count)
  })
})
