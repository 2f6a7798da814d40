import { chmodSync, chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { cleanUp, otherUid, Purserd, temporaryDirectory } from '../start/purserd.ts'
import { RawClient } from '../support/raw-client.ts'
import { askAs, UserNamespace, whyNoUserNamespace } from '../support/user-namespace.ts'
import { lines, request } from './wire.ts'

// Section 3 of the contract, for callers that live in another user namespace than the daemon.

cleanUp()

const skipped = whyNoUserNamespace()
if (skipped !== null) console.warn(`skipped: ${skipped}`)

const overflowId = 65_534
const questions = lines(
  request(1, 'session.hello', { client: 'stranger' }),
  request(2, 'users.put', { userId: 'by-a-stranger' }),
)

const namespaces: UserNamespace[] = []
afterEach(() => {
  for (const namespace of namespaces.splice(0)) namespace[Symbol.dispose]()
})

async function namespaceOf(map: string): Promise<UserNamespace> {
  const namespace = await UserNamespace.make(map)
  namespaces.push(namespace)
  return namespace
}

/** purserd run by `command` with everything in one directory that `owner` owns and anybody may pass through. */
async function serve(
  owner: number,
  command: (launcher: string) => [string, string[]],
  more: string[] = [],
): Promise<{ purserd: Purserd; home: string; socket: string }> {
  const home = temporaryDirectory()
  chmodSync(home, 0o755)
  const [data, run] = [join(home, 'data'), join(home, 'run')]
  for (const [directory, mode] of [
    [data, 0o700],
    [run, 0o755],
  ] as const) {
    mkdirSync(directory, { mode })
    chmodSync(directory, mode)
    chownSync(directory, owner, owner)
  }
  const socket = join(run, 'purser.sock')
  const env = { MASTER_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString('base64'), PURSER_SOCKET_MODE: '0666' }
  const [program, args] = command(join(import.meta.dirname, '../../bin/purserd'))
  const own = ['--data-dir', data, '--socket', socket]
  const purserd = new Purserd([...args, ...own, ...more], home, { command: program, env })
  await purserd.ready()
  return { purserd, home, socket }
}

const here = (launcher: string): [string, string[]] => [launcher, []]

describe.skipIf(skipped !== null)('callers of another user namespace', () => {
  test("a container's root is who its uid is outside, and no admin", async () => {
    const { socket, purserd } = await serve(0, here)
    const container = await namespaceOf('0 1000000 65536')
    const [hello, put] = await container.ask(0, socket, questions)
    expect(hello!.result.identity).toMatchObject({ uid: 1_000_000, role: 'none', users: [], scopes: [] })
    expect(put!.error!.data).toMatchObject({ type: 'Forbidden' })
    await purserd.stop()
  })

  test('root itself in a container, with an admin socket set, has the role none on the other one', async () => {
    const home = temporaryDirectory()
    const adminSocket = join(home, 'admin', 'purser.sock')
    const { socket, purserd } = await serve(0, here, ['--admin-socket', adminSocket])
    // A container without a namespace of its own for users, or one that maps root to root.
    const container = await namespaceOf('0 0 65536')
    for (const answers of [await container.ask(0, socket, questions), await askAs(0, socket, questions)]) {
      expect(answers[0]!.result.identity).toMatchObject({ uid: 0, role: 'none', users: [], scopes: [] })
      expect(answers[1]!.error!.data).toMatchObject({ type: 'Forbidden' })
    }
    const [hello, put] = await container.ask(0, adminSocket, questions)
    expect(hello!.result.identity).toMatchObject({ uid: 0, role: 'admin' })
    expect(put!.result).toMatchObject({ userId: 'by-a-stranger' })
    await purserd.stop()
  })

  test("the overflow uid is nobody's, not the daemon's own either", async ({ skip }) => {
    otherUid(skip)
    const container = await namespaceOf(`0 0 1\n${overflowId} ${overflowId} 1`)
    const { socket, purserd } = await serve(overflowId, (launcher) => container.command(overflowId, launcher))
    // Not mapped where the daemon lives, so the kernel shows it as the overflow uid, which is the daemon's own number.
    for (const id of [54_321, overflowId]) {
      const [hello, put] = await askAs(id, socket, questions)
      expect(hello!.result.identity).toMatchObject({ uid: overflowId, gid: overflowId, role: 'none' })
      expect(put!.error!.data).toMatchObject({ type: 'Forbidden' })
    }
    const admin = new RawClient(socket)
    expect((await admin.call('session.hello')).result.identity).toMatchObject({ uid: 0, role: 'admin' })
    const { result } = await admin.call('audit.query', { action: 'access_denied' })
    expect(result.entries).toMatchObject([
      { peer: { uid: overflowId }, client: 'stranger' },
      { peer: { uid: overflowId }, client: 'stranger' },
    ])
    admin.close()
    await purserd.stop()
  })
})
