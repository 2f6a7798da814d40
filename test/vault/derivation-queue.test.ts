import { describe, expect, test } from 'vitest'
import { DerivationQueue } from '../../src/vault/derivation-queue.ts'
import { deriveKek } from '../../src/vault/kdf.ts'
import { rejection } from './support.ts'

/** Derivations that end when the test says so, and the order in which they began. */
function controlled(queue: DerivationQueue) {
  const began: string[] = []
  const ends: (() => void)[] = []
  const run = (userId: string, name: string) =>
    queue.run(userId, () => {
      began.push(name)
      return new Promise<string>((resolve) => ends.push(() => resolve(name)))
    })
  const runInBackground = (name: string) =>
    queue.runInBackground(() => {
      began.push(name)
      return new Promise<string>((resolve) => ends.push(() => resolve(name)))
    })
  /** Ends all that runs, one after another, until nothing is left. */
  const finish = async () => {
    while (queue.running > 0) {
      ends.shift()?.()
      await new Promise(setImmediate)
    }
  }
  return { began, ends, run, runInBackground, finish }
}

describe('DerivationQueue', () => {
  test('runs at most so many at once', async () => {
    const queue = new DerivationQueue(2)
    const { began, run, finish } = controlled(queue)
    const all = ['a', 'b', 'c', 'd', 'e'].map((name) => run(name, name))
    expect(began).toEqual(['a', 'b'])
    expect([queue.running, queue.size]).toEqual([2, 3])
    await finish()
    expect(await Promise.all(all)).toEqual(['a', 'b', 'c', 'd', 'e'])
    expect([queue.running, queue.size]).toEqual([0, 0])
  })

  test('takes users in turn, and each user first come, first served', async () => {
    const queue = new DerivationQueue(1)
    const { began, run, finish } = controlled(queue)
    const names = ['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'c1']
    const all = names.map((name) => run(name.charAt(0), name))
    await finish()
    await Promise.all(all)
    expect(began).toEqual(['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4'])
  })

  test('a user who comes late waits for one derivation of each other, whatever they have waiting', async () => {
    const queue = new DerivationQueue(1)
    const { began, ends, run, finish } = controlled(queue)
    const all = Array.from({ length: 100 }, (_, index) => run('greedy', `greedy ${index}`))
    ends.shift()?.()
    await new Promise(setImmediate)
    all.push(run('late', 'late'))
    await finish()
    await Promise.all(all)
    expect(began.indexOf('late')).toBe(3)
  })

  test('work in the background runs when no request waits', async () => {
    const queue = new DerivationQueue(2)
    const { began, run, runInBackground, finish } = controlled(queue)
    const all = [runInBackground('b1'), runInBackground('b2'), runInBackground('b3')]
    expect(began).toEqual(['b1', 'b2'])
    all.push(run('alice', 'a1'), run('alice', 'a2'))
    expect(queue.size).toBe(2)
    await finish()
    await Promise.all(all)
    expect(began).toEqual(['b1', 'b2', 'a1', 'a2', 'b3'])
  })

  test('work in the background that has waited for ten derivations is let in', async () => {
    const queue = new DerivationQueue(1)
    const began: string[] = []
    const brief = (name: string) => () => {
      began.push(name)
      return new Promise<void>((resolve) => setTimeout(resolve, 2))
    }
    const all = Array.from({ length: 200 }, (_, index) => queue.run('alice', brief(`a${index}`)))
    await Promise.all([...all, queue.runInBackground(brief('b'))])
    // The guess for the first ones is 20 ms each: 200 ms, or less when they turn out shorter.
    expect(began.indexOf('b')).toBeGreaterThan(5)
    expect(began.indexOf('b')).toBeLessThan(150)
  })

  test('a stop refuses what waits in the background', async () => {
    const queue = new DerivationQueue(1)
    const { ends, run, runInBackground } = controlled(queue)
    const first = run('alice', 'a1')
    const waiting = rejection(runInBackground('b1'))
    const stopped = queue.stop()
    expect((await waiting).type).toBe('Overloaded')
    expect((await rejection(runInBackground('b2'))).type).toBe('Overloaded')
    ends.shift()?.()
    await Promise.all([first, stopped])
  })

  test('is Overloaded beyond its bound, at once, and says when to come back', async () => {
    const queue = new DerivationQueue(1, 3)
    const { run, finish } = controlled(queue)
    const accepted = ['a', 'b', 'c', 'd'].map((name) => run(name, name))
    const error = await rejection(run('e', 'e'))
    expect(error.type).toBe('Overloaded')
    expect(error.data['retryAfterMs']).toBeGreaterThanOrEqual(50)
    await finish()
    expect(await Promise.all(accepted)).toHaveLength(4)
  })

  test('one user who filled it gives places up to others, the newest first', async () => {
    const queue = new DerivationQueue(1, 4)
    const { began, run, finish } = controlled(queue)
    const greedy = ['1', '2', '3', '4', '5'].map((name) => run('greedy', name))
    const other = run('other', 'other')
    expect((await rejection(greedy[4]!)).type).toBe('Overloaded')
    expect((await rejection(run('greedy', '6'))).type).toBe('Overloaded')
    expect(queue.size).toBe(4)
    await finish()
    expect(await Promise.all([...greedy.slice(0, 4), other])).toHaveLength(5)
    expect(began).toEqual(['1', '2', 'other', '3', '4'])
  })

  test('a full queue of users with one waiting each takes no place away', async () => {
    const queue = new DerivationQueue(1, 2)
    const { run, finish } = controlled(queue)
    const accepted = ['a', 'b', 'c'].map((name) => run(name, name))
    expect((await rejection(run('d', 'd'))).type).toBe('Overloaded')
    await finish()
    expect(await Promise.all(accepted)).toEqual(['a', 'b', 'c'])
  })

  test('goes on after a derivation that failed, thrown or rejected', async () => {
    const queue = new DerivationQueue(1)
    const thrown = queue.run('a', () => {
      throw new Error('thrown')
    })
    const rejected = queue.run('a', () => Promise.reject(new Error('rejected')))
    const fine = queue.run('a', () => Promise.resolve('fine'))
    await expect(thrown).rejects.toThrow('thrown')
    await expect(rejected).rejects.toThrow('rejected')
    expect(await fine).toBe('fine')
    expect([queue.running, queue.size]).toEqual([0, 0])
  })

  test('stop refuses what waits and what comes, and waits for what runs', async () => {
    const queue = new DerivationQueue(1)
    const { ends, run } = controlled(queue)
    const running = run('a', 'running')
    const waiting = run('a', 'waiting')
    let stopped = false
    const stop = queue.stop().then(() => {
      stopped = true
    })
    expect((await rejection(waiting)).type).toBe('Overloaded')
    expect((await rejection(run('b', 'late'))).type).toBe('Overloaded')
    await new Promise(setImmediate)
    expect(stopped).toBe(false)
    ends.shift()?.()
    expect(await running).toBe('running')
    await stop
    await queue.stop()
    expect([queue.running, queue.size]).toEqual([0, 0])
  })

  test('leaves the event loop free while real derivations run', async () => {
    const queue = new DerivationQueue()
    const input = { masterKey: Buffer.alloc(32, 1), salt: Buffer.alloc(16, 2), formatVersion: 1 }
    const params = { memoryKib: 19_456, iterations: 2 }
    let turns = 0
    let counting = true
    const count = () => {
      turns += 1
      if (counting) setImmediate(count)
    }
    count()
    await Promise.all(
      Array.from({ length: 10 }, (_, index) => {
        const userId = `user ${index}`
        return queue.run(userId, () => deriveKek({ ...input, userId, params }))
      }),
    )
    counting = false
    // On the loop itself they would leave it a turn or two each.
    expect(turns).toBeGreaterThan(200)
  })
})
