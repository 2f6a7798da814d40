import { beforeEach, expect, test } from 'vitest'
import type { Line } from '../../src/rpc/line.ts'
import { type TurnHolder, TurnQueue } from '../../src/transport/turn-queue.ts'

type Caller = { name: string; left: number; next: () => Line | undefined }

let queue: TurnQueue<Caller>
beforeEach(() => {
  queue = new TurnQueue()
})

const holder = (isAdmin = false): TurnHolder => ({ isAdmin })

/** Has a connection with `lines` to carry out wait. */
function wait(name: string, of: TurnHolder, lines = Number.POSITIVE_INFINITY): Caller {
  const caller: Caller = {
    name,
    left: lines,
    next: () => (caller.left-- > 0 ? ({ requests: 1, bytes: 1 } as Line) : undefined),
  }
  queue.add(caller, of)
  return caller
}

/** Who is served in the next `count` turns, by the first letters of their names. */
function served(count = 1000): string {
  let names = ''
  for (let n = 0; n < count; n++) {
    const taken = queue.take(() => false)
    if (taken === null) break
    names += taken.connection.name[0]
  }
  return names
}

test('one after another, each until it has nothing more', () => {
  const one = holder()
  wait('a', one, 3)
  wait('b', one, 1)
  wait('c', one, 2)
  expect(served()).toBe('abcaca')
  expect(queue.size).toBe(0)
  expect(queue.take(() => false)).toBeNull()
})

test('holders in turn, however many connections they have', () => {
  const [crowd, few] = [holder(), holder()]
  for (let n = 0; n < 100; n++) wait(`x${n}`, crowd)
  wait('a', few)
  wait('b', few)
  expect(served(8)).toBe('xaxbxaxb')
})

test('admins have every other line, and the first of a turn of the event loop', () => {
  for (let n = 0; n < 50; n++) wait('x', holder())
  expect(served(3)).toBe('xxx')
  wait('A', holder(true))
  wait('B', holder(true))
  queue.begin()
  expect(served(6)).toBe('AxBxAx')
})

test('one that leaves is not served, and the others keep their turns', () => {
  const of = holder()
  const [a, b, c] = [wait('a', of), wait('b', of), wait('c', of)]
  expect(served(1)).toBe('a')
  expect(queue.delete(a)).toBe(true)
  expect(queue.delete(a)).toBe(false)
  expect(served(3)).toBe('bcb')
  queue.delete(c)
  expect(served(2)).toBe('bb')
  queue.delete(b)
  expect(served(1)).toBe('')
})

test('one that comes while it waits keeps its place, and may come again later', () => {
  const of = holder()
  const a = wait('a', of, 1)
  wait('b', of, 1)
  queue.add(a, of)
  expect(queue.size).toBe(2)
  expect(served()).toBe('ab')
  a.left = 2
  queue.add(a, holder())
  expect(served()).toBe('aa')
})
