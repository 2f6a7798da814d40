import { existsSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { SpendFlow } from '../ledger/spend-flow.ts'

/** Where Debian's package `faketime` (libfaketime) puts the library that shifts a process's wall clock. */
const library = ['x86_64-linux-gnu', 'aarch64-linux-gnu']
  .map((triplet) => `/usr/lib/${triplet}/faketime/libfaketimeMT.so.1`)
  .find(existsSync)

if (library === undefined)
  console.log('skipped: libfaketime is not installed (Debian: apt-get install faketime)')

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs

/** A real daemon whose wall clock is moved while it runs; its monotonic clock and the time since boot are not. */
class MovedClock implements AsyncDisposable {
  readonly flow: SpendFlow
  readonly #directory: string
  readonly #pids: number[]
  #offsetMs: number

  private constructor(flow: SpendFlow, directory: string, offsetMs: number) {
    this.flow = flow
    this.#directory = directory
    this.#offsetMs = offsetMs
    this.#pids = [flow.purser.pid]
  }

  static async start(offsetMs = 0): Promise<MovedClock> {
    const directory = await mkdtemp(join(tmpdir(), 'purser-clock-'))
    const file = join(directory, 'offset')
    write(file, offsetMs)
    const env = {
      LD_PRELOAD: library,
      // Read at every look at the clock, so that a step is there at once.
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    }
    return new MovedClock(await SpendFlow.start({ env }), directory, offsetMs)
  }

  async restart(): Promise<void> {
    await this.flow.restart()
    this.#pids.push(this.flow.purser.pid)
  }

  /** Sets the wall clock forwards or backwards. */
  step(byMs: number): void {
    this.#offsetMs += byMs
    write(join(this.#directory, 'offset'), this.#offsetMs)
  }

  /** The wall clock as the daemon sees it. */
  now(): number {
    return Date.now() + this.#offsetMs
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flow[Symbol.asyncDispose]()
    // The launcher's exec keeps the library from removing what it shares between processes.
    const shared = this.#pids.flatMap((pid) => [`faketime_shm_${pid}`, `sem.faketime_sem_${pid}`])
    for (const path of [this.#directory, ...shared.map((name) => join('/dev/shm', name))])
      await rm(path, { recursive: true, force: true })
  }
}

function write(file: string, offsetMs: number): void {
  const seconds = offsetMs / 1000
  writeFileSync(file, `${seconds < 0 ? '' : '+'}${seconds.toFixed(3)}\n`)
}

function midnightAfter(ms: number): string {
  return new Date((Math.floor(ms / dayMs) + 1) * dayMs).toISOString()
}

/** An offset that puts the wall at `time` of a day to come. */
function offsetTo(time: string): number {
  return Date.parse(`${midnightAfter(Date.now() + dayMs).slice(0, 10)}T${time}Z`) - Date.now()
}

const frozen = { code: 1005, type: 'Frozen', reason: 'clock' }

test
  .skipIf(library === undefined)
  .concurrent('a clock that jumps a day ahead grants nothing until an admin takes it', async () => {
    await using moved = await MovedClock.start(offsetTo('12:00:00'))
    const { flow } = moved
    const userId = await flow.user()
    await flow.credential(userId)
    const held = await flow.reserve(userId, '50', { idempotencyKey: 'one' })
    for (let count = 0; count < 4; count++) await flow.record(userId, '100')
    const resetsAt = midnightAfter(moved.now())

    moved.step(dayMs)
    for (const [method, params] of [
      ['spend.check', { userId, amountUsd: '1' }],
      ['spend.reserve', { userId, amountUsd: '1' }],
      ['spend.reserve', { userId, amountUsd: '50', idempotencyKey: 'one' }],
      ['spend.reserve', { userId: 'nobody', amountUsd: '1' }],
    ] as const) {
      const refused = await flow.refused(method, params)
      expect(refused).toMatchObject(frozen)
      expect(Math.abs(Date.parse(refused.since) - moved.now())).toBeLessThan(minuteMs)
    }
    // What the clock does not decide still works.
    await flow.call('credentials.retrieve', { userId })
    expect(await flow.call('system.health')).toMatchObject({ status: 'frozen' })
    expect((await flow.call('system.metrics')).text).toContain('purser_frozen 1\n')
    // The hold's minute is over by that clock, and it is still held; what moves counts in the day before the jump.
    await sleep(1100)
    const { reservations } = await flow.call('reservations.list', { userId })
    expect(reservations).toMatchObject([{ reservationId: held.reservationId, state: 'held' }])
    await flow.capture(held.reservationId, { amountUsd: '20' })
    await flow.record(userId, '10')
    expect(await flow.status(userId)).toMatchObject({
      frozen: { reason: 'clock' },
      userDaily: { spentUsd: '430.00', resetsAt },
      worstCaseUsd: '430.00',
    })

    expect(await flow.call('system.unfreeze')).toEqual({ frozen: null })
    expect(await flow.status(userId)).toMatchObject({
      frozen: null,
      userDaily: { spentUsd: '0.00', resetsAt: midnightAfter(moved.now()) },
      exposure: { openUsd: '430.00' },
    })
    const [lifted] = (await flow.call('audit.query', { action: 'system_unfrozen' })).entries
    expect(lifted.details.day - lifted.details.dayBefore).toBe(1)
    await flow.record(userId, '7')

    // And back: what was counted on the later day counts in this one, so that the jump has given nothing.
    moved.step(-dayMs)
    expect(await flow.refused('spend.reserve', { userId, amountUsd: '1' })).toMatchObject(frozen)
    await flow.call('system.unfreeze')
    expect(await flow.status(userId)).toMatchObject({ userDaily: { spentUsd: '437.00', resetsAt } })
    expect(await flow.call('audit.verify')).toMatchObject({ ok: true })
  })

test
  .skipIf(library === undefined)
  .concurrent('a start behind the last time stored is frozen, one ahead of it is not', async () => {
    await using moved = await MovedClock.start(offsetTo('12:00:00'))
    const { flow } = moved
    const userId = await flow.user()
    for (let count = 0; count < 3; count++) await flow.record(userId, '100')
    await flow.purser.kill('SIGKILL')
    moved.step(-2 * dayMs)
    await moved.restart()
    expect(await flow.refused('spend.reserve', { userId, amountUsd: '1' })).toMatchObject(frozen)
    expect(await flow.status(userId)).toMatchObject({ userDaily: { spentUsd: '300.00' } })
    await flow.call('system.unfreeze')
    expect(await flow.status(userId)).toMatchObject({
      userDaily: { spentUsd: '300.00', resetsAt: midnightAfter(moved.now()) },
    })
    await flow.reserve(userId, '1')
    await moved.restart()
    await flow.reserve(userId, '1')

    moved.step(3 * dayMs)
    expect(await flow.refused('spend.reserve', { userId, amountUsd: '1' })).toMatchObject(frozen)
    await moved.restart()
    expect(await flow.status(userId)).toMatchObject({ frozen: null, userDaily: { spentUsd: '0.00' } })
    await flow.reserve(userId, '1')
  })

test
  .skipIf(library === undefined)
  .concurrent('midnight comes while it runs, and a small step back does not bring the day back', async () => {
    await using moved = await MovedClock.start(offsetTo('23:59:55'))
    const { flow } = moved
    const userId = await flow.user()
    await flow.record(userId, '100')
    const { reservationId } = await flow.reserve(userId, '30', { ttlSeconds: 3600 })
    const midnight = Date.parse(midnightAfter(moved.now()))
    expect((await flow.status(userId)).userDaily).toMatchObject({
      spentUsd: '100.00',
      resetsAt: new Date(midnight).toISOString(),
    })
    await sleep(midnight - moved.now() + 50)
    const next = new Date(midnight + dayMs).toISOString()
    expect((await flow.status(userId)).userDaily).toMatchObject({
      spentUsd: '0.00',
      reservedUsd: '30.00',
      resetsAt: next,
    })
    await flow.capture(reservationId)
    await flow.record(userId, '5')
    moved.step(-4 * minuteMs)
    await flow.record(userId, '1')
    expect(await flow.status(userId)).toMatchObject({
      frozen: null,
      userDaily: { spentUsd: '36.00', resetsAt: next },
    })
    // A second step takes it more than five minutes from where it was.
    moved.step(-2 * minuteMs)
    expect(await flow.refused('spend.check', { userId, amountUsd: '1' })).toMatchObject(frozen)
  })
