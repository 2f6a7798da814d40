import { expect, test } from 'vitest'
import { Call } from '../../src/client/call.ts'
import { CallQueue } from '../../src/client/call-queue.ts'

function call(id: number): Call {
  return new Call({
    id,
    method: 'm',
    line: '',
    resendable: false,
    timeoutMs: Infinity,
    signal: undefined,
    resolve: () => {},
    reject: () => {},
    onCancel: () => {},
    whyNotSent: () => undefined,
  })
}

test('behaves like an array under random operations', () => {
  const seed = Number(process.env['PURSER_TEST_SEED'] ?? Date.now() % 2 ** 31)
  let state = seed
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff
    return state % below
  }
  const queue = new CallQueue()
  const model: Call[] = []
  const outside = call(-1)
  for (let step = 0; step < 5000; step += 1) {
    const action = random(5)
    if (action === 0 || action === 4) {
      const added = call(step)
      queue.push(added)
      model.push(added)
    } else if (action === 1) {
      const added = call(step)
      queue.unshift(added)
      model.unshift(added)
    } else if (action === 2) {
      expect(queue.shift()?.id, `PURSER_TEST_SEED=${seed}`).toBe(model.shift()?.id)
    } else {
      queue.remove(outside)
      const victim = model[random(Math.max(1, model.length))]
      if (victim !== undefined) {
        queue.remove(victim)
        queue.remove(victim)
        model.splice(model.indexOf(victim), 1)
      }
    }
    expect(queue.size, `PURSER_TEST_SEED=${seed}`).toBe(model.length)
  }
  while (model.length > 0) expect(queue.shift()?.id, `PURSER_TEST_SEED=${seed}`).toBe(model.shift()?.id)
  expect(queue.shift()).toBeNull()
})
