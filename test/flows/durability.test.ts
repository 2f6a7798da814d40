import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, type TestContext, test } from 'vitest'
import { skipWith } from '../support/skip.ts'
import { old } from './binding-acts.ts'
import { Story, sample, until } from './story.ts'

// An answer leaves only after what it says is on disk, and where the disk says that it is not, nothing leaves. Watched
// from outside, by strace.

/** Attaches strace to the daemon; skips where that is not possible. */
async function trace(context: TestContext, story: Story, ...options: string[]): Promise<Trace> {
  const skip = (why: string) => skipWith(context.skip, why)
  try {
    execFileSync('strace', ['--version'], { stdio: 'ignore' })
  } catch {
    skip('strace is not installed')
  }
  const output = join(story.purser.directory, `trace-${performance.now()}`)
  const child = spawn(
    'strace',
    ['-f', '-qq', '-s', '300', '-o', output, ...options, '-p', String(story.purser.pid)],
    { stdio: 'ignore' },
  )
  let ended = false
  child.on('exit', () => {
    ended = true
  })
  // Attached once the kernel says so; it ends where it may not.
  const tracer = () =>
    /^TracerPid:\t(\d+)$/m.exec(readFileSync(`/proc/${story.purser.pid}/status`, 'utf8'))?.[1]
  await until(() => ended || tracer() !== '0')
  if (ended) skip('strace may not attach here')
  return new Trace(child, output)
}

class Trace {
  readonly #child: ChildProcess
  readonly #output: string

  constructor(child: ChildProcess, output: string) {
    this.#child = child
    this.#output = output
  }

  /** Detaches, and answers the system calls seen, in order. */
  async end(): Promise<string[]> {
    const exited = new Promise((resolve) => this.#child.on('exit', resolve))
    this.#child.kill('SIGINT')
    await exited
    return readFileSync(this.#output, 'utf8').trim().split('\n')
  }
}

test('each answer to a write, and each secret, leaves after a sync', async (context) => {
  await using story = await Story.begin()
  await story.ok('credentials.store', { userId: 'alice', ...old })
  const traced = await trace(context, story, '-e', 'trace=fdatasync,fsync,write,writev,sendmsg,sendto')
  const calls: [string, object][] = [
    ['credentials.retrieve', { userId: 'alice' }],
    ['credentials.retrieve', { userId: 'alice' }],
    ['credentials.store', sample('alice', 5)],
    ['credentials.update', { userId: 'alice', credentialId: 1, name: 'n' }],
    ['users.put', { userId: 'bob' }],
    ['credentials.revoke', { userId: 'alice', credentialId: 1 }],
    ['credentials.retrieve', { userId: 'nobody' }],
  ]
  for (const [index, [method, params]] of calls.entries())
    await story.main.call(method, params, `mark-${index}`)
  const seen = await traced.end()
  let from = 0
  for (const [index, [method]] of calls.entries()) {
    const answered = seen.findIndex((line) => line.includes(`mark-${index}\\"`))
    expect(answered, method).toBeGreaterThanOrEqual(from)
    const syncs = seen.slice(from, answered).filter((line) => /f(data)?sync\(.*= 0$/.test(line))
    expect(syncs.length, `${method} was answered without a sync`).toBeGreaterThan(0)
    from = answered + 1
  }
})

test('a sync that fails: nothing leaves, and it goes on once the disk does', async (context) => {
  await using story = await Story.begin()
  await story.ok('credentials.store', { userId: 'alice', ...old })
  await story.ok('credentials.retrieve', { userId: 'alice' })
  for (let round = 0; round < 2; round++) {
    const before = await story.headSeq()
    const traced = await trace(context, story, '-e', 'inject=fdatasync,fsync:error=EIO')
    for (const [method, params] of [
      ['credentials.retrieve', { userId: 'alice' }],
      ['credentials.retrieve', { userId: 'alice', credentialId: 1 }],
      ['credentials.store', sample('alice', 5)],
      ['credentials.revoke', { userId: 'alice', credentialId: 1 }],
    ] as const) {
      const answer = await story.main.call(method, params)
      expect(answer).toMatchObject({ error: { code: 5001 } })
      for (const secret of Object.values(old)) expect(JSON.stringify(answer)).not.toContain(secret)
    }
    expect((await story.ok('system.health')).status).toBe('degraded')
    await traced.end()
    expect(await story.ok('credentials.retrieve', { userId: 'alice' })).toMatchObject(old)
    expect(await story.entries(before)).toHaveLength(1)
    expect((await story.ok('system.health')).status).toBe('ok')
    await story.chainHolds()
    await story.restart()
    await story.chainHolds()
    expect(await story.ok('credentials.list')).toMatchObject({ credentials: [{ status: 'active' }] })
  }
})
