import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Story, until } from '../flows/story.ts'
import { type Answer, RawClient } from '../support/raw-client.ts'
import { lines, request } from './wire.ts'

// Section 3 of the contract: where an admin socket is set, nobody is an admin but on it.

const otherUid = 54_321
const isRoot = process.getuid!() === 0
if (!isRoot) console.warn('skipped: only root can start a process of a second uid')

/** Sends what it reads to the socket, as another uid, and prints what comes back. */
const relay = `
process.setgroups([])
process.setgid(${otherUid})
process.setuid(${otherUid})
const socket = require('node:net').connect({ path: process.argv[1], allowHalfOpen: true })
process.stdin.pipe(socket)
socket.pipe(process.stdout)
socket.on('end', () => process.exit())
`

let directory: string
let adminPath: string
let story: Story
let admin: RawClient

async function begin(): Promise<void> {
  story = await Story.begin({ args: ['--admin-socket', adminPath] })
  admin = new RawClient(adminPath)
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'purser-admin-'))
  adminPath = join(directory, 'own', 'admin.sock')
  await begin()
  await story.ok('users.put', { userId: 'alice' }, admin)
})
afterAll(async () => {
  admin?.close()
  await story?.[Symbol.asyncDispose]()
  rmSync(directory, { recursive: true, force: true })
})

test('the ready line names it; it is 0600 in a directory of its own, 0700', () => {
  expect(story.purser.ready).toMatchObject({ socket: story.purser.socketPath, adminSocket: adminPath })
  expect(statSync(adminPath).mode & 0o777).toBe(0o600)
  expect(statSync(join(directory, 'own')).mode & 0o777).toBe(0o700)
})

test("root's and the daemon's own uid are admins on it, and callers like any other elsewhere", async () => {
  expect((await story.ok('session.hello', {}, admin)).identity).toMatchObject({ role: 'admin', users: '*' })
  expect((await story.ok('session.hello', {})).identity).toMatchObject({
    uid: process.getuid!(),
    role: 'none',
    users: [],
    scopes: [],
  })
})

test('on the main socket every method but session.*, ping and health is Forbidden', async () => {
  const { methods } = await story.ok('rpc.discover', {}, admin)
  const open = ['session.hello', 'system.ping', 'system.health']
  for (const { name } of methods as { name: string }[]) {
    const answer = await story.main.call(name, {})
    if (open.includes(name)) expect(answer.result).toBeDefined()
    else
      expect(answer.error, name).toMatchObject({ code: 1001, data: { type: 'Forbidden', retryable: false } })
  }
  expect((await story.main.call('no.such')).error).toMatchObject({ code: -32601 })
})

test('refusals there are written one by one up to 60 a minute, and counted beyond it', async () => {
  const before = (await story.ok('audit.query', { limit: 1 }, admin)).entries[0].seq
  const client = story.connect()
  const count = 300
  client.send(lines(...Array.from({ length: count }, (_, n) => request(n, 'users.get', { userId: 'alice' }))))
  await until(() => client.answers.length === count)
  for (const answer of client.answers.flat()) expect(answer.error!.data.type).toBe('Forbidden')
  admin.close()
  await story.restart()
  admin = new RawClient(adminPath)
  const { entries } = await story.ok('audit.query', { action: 'access_denied', limit: 1000 }, admin)
  const told = (entries as { seq: number; details: Record<string, unknown> }[]).filter(
    ({ seq }) => seq > before,
  )
  const counted = told.filter(({ details }) => details['count'] !== undefined)
  const singly = told.length - counted.length
  // Twice 60 where the minute turned meanwhile, less what the test before this one has used up.
  expect(singly).toBeLessThanOrEqual(120)
  expect(counted).toHaveLength(1)
  // Those of the test before that were only counted are told of here too.
  expect(singly + Number(counted[0]!.details['count'])).toBeGreaterThanOrEqual(count)
  expect(await story.ok('audit.verify', {}, admin)).toMatchObject({ ok: true })
})

describe.skipIf(!isRoot)('anybody else on it', () => {
  let others: ChildProcess[] = []
  beforeAll(() => {
    // Opened up as a careless operator might: what the modes do not keep out the daemon must.
    chmodSync(directory, 0o755)
    chmodSync(join(directory, 'own'), 0o755)
    chmodSync(adminPath, 0o666)
  })
  afterAll(() => {
    for (const other of others) other.kill('SIGKILL')
    others = []
  })

  /** What somebody of another uid gets who sends `text`, until the end of the connection. */
  async function answersTo(text: string): Promise<Answer[]> {
    const other = spawn(process.execPath, ['-e', relay, adminPath], {
      env: {},
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    others.push(other)
    let output = ''
    other.stdout!.setEncoding('utf8').on('data', (more) => {
      output += more
    })
    other.stdin!.on('error', () => undefined).write(text)
    await new Promise((resolve) => other.on('exit', resolve))
    return output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
  }

  test.each([
    ['who asks for nothing', ''],
    ['who asks', lines(request(1, 'system.ping'), request(undefined, 'users.put', { userId: 'by-another' }))],
    ['who says hello', lines(request(1, 'session.hello', { client: 'x' }))],
  ])('%s is Forbidden and closed, and nothing of it is carried out', async (_, text) => {
    const before = (await story.ok('audit.query', { limit: 1 }, admin)).entries[0].seq
    expect(await answersTo(text)).toEqual([
      {
        jsonrpc: '2.0',
        id: null,
        error: {
          code: 1001,
          message: expect.any(String),
          data: { type: 'Forbidden', retryable: false, hint: expect.any(String), scope: 'admin' },
        },
      },
    ])
    const { entries } = await story.ok('audit.query', { limit: 10 }, admin)
    expect(entries.filter(({ seq }: { seq: number }) => seq > before)).toMatchObject([
      {
        action: 'access_denied',
        outcome: 'denied',
        peer: { uid: otherUid, pid: expect.any(Number), comm: expect.stringMatching(/./) },
        details: { error: 'Forbidden' },
      },
    ])
    expect((await admin.call('users.get', { userId: 'by-another' })).error!.data.type).toBe('NotFound')
  })
})
