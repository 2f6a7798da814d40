import fc from 'fast-check'
import { describe, test } from 'vitest'
import type { Act } from '../../src/service/act.ts'
import type { Transaction } from '../../src/store/operations.ts'
import { perform } from '../../src/store/operations.ts'
import { InProcessLedger } from './in-process.ts'
import { Model } from './model.ts'
import { anyStep, readStep, spendStep, usd, weighted } from './model-acts.ts'
import { Command, checkEntries, together, World } from './model-world.ts'
import { runs, seed, timeoutMs } from './support.ts'

/** A store serves this many runs, so that it stays small and each run starts at once. */
const runsPerStore = 25
const dayMs = 86_400_000

/** Moves the clocks; then the look and the sweep that the daemon's timer makes every second. */
function clockCommand(text: string, move: (world: World) => void, departsByMs: number): Command {
  return new Command(text, async (world) => {
    const { ledger, model } = world
    move(world)
    model.now = ledger.host.wall
    departure.set(model, (departure.get(model) ?? 0) + departsByMs)
    if (Math.abs(departure.get(model)!) > 300_000) model.doubted = true
    ledger.clock.look()
  })
}

/** How far the wall of a run has been set from where it was last taken for right. */
const departure = new WeakMap<Model, number>()

const clockCommands = fc.oneof(
  fc
    .constantFrom(1, 999, 1000, 59_999, 60_000, 3_600_000, 86_400_000)
    .map((ms) => clockCommand(`pass ${ms}`, ({ ledger }) => ledger.host.pass(ms), 0)),
  fc.constant(
    clockCommand('pass to midnight', ({ ledger }) => ledger.host.pass(dayMs - (ledger.host.wall % dayMs)), 0),
  ),
  fc
    .constantFrom(1000, 7_200_000)
    .map((ms) => clockCommand(`suspend ${ms}`, ({ ledger }) => ledger.host.suspend(ms), 0)),
  fc
    .constantFrom(-120_000, 120_000, -290_000, 310_000, -dayMs, dayMs, 400 * dayMs)
    .map((ms) => clockCommand(`set ${ms}`, ({ ledger }) => ledger.host.set(ms), ms)),
)

const limit = fc.constantFrom(...[0, 100, 300, 300, 500, 1000].map(usd))

function operatorCommand(text: string, run: (world: World, act: Act) => Promise<unknown>): Command {
  return new Command(text, async (world) => {
    await run(world, world.ledger.act())
    checkEntries(world, true)
  })
}

const operatorCommands = fc.oneof(
  fc
    .record({ user: fc.nat({ max: 1 }), perTrade: limit, daily: limit, exposure: limit })
    .map(({ user, ...limits }) =>
      operatorCommand(`limits ${user} ${Object.values(limits)}`, async (world, act) => {
        const scaled = {
          perTrade: world.amount(limits.perTrade),
          daily: world.amount(limits.daily),
          exposure: world.amount(limits.exposure),
        }
        world.model.putLimits(world.user(user), scaled)
        await world.ledger.users.put(act, {
          userId: world.user(user),
          limits: { perTradeUsd: scaled.perTrade, dailyUsd: scaled.daily, exposureUsd: scaled.exposure },
        })
      }),
    ),
  fc
    .record({ user: fc.nat({ max: 1 }), reason: weighted([1, null], [1, 'too wild']) })
    .map(({ user, reason: why }) =>
      operatorCommand(`freeze user ${user} ${why}`, async (world, act) => {
        world.model.freezeUser(world.user(user), why)
        if (why === null) await world.ledger.freeze.unfreezeUser(act, world.user(user))
        else await world.ledger.freeze.freezeUser(act, world.user(user), why)
      }),
    ),
  weighted([1, null], [1, 'too wild']).map((why) =>
    operatorCommand(`freeze system ${why}`, async (world, act) => {
      if (why === null) await unfreeze(world, act)
      else {
        world.model.freezeSystem(why)
        await world.ledger.freeze.freezeSystem(act, why)
      }
    }),
  ),
  fc.record({ index: fc.nat({ max: 2 }), daily: fc.option(limit) }).map(({ index, daily }) =>
    operatorCommand(`credential ${index} limit ${daily}`, async (world) => {
      const credential = world.model.credentials[index]!
      credential.daily = daily === null ? null : world.amount(daily)
      await edit(world, index)
    }),
  ),
  fc
    .record({ index: fc.nat({ max: 2 }), what: fc.constantFrom('revoke', 'expire', 'primary') })
    .map(({ index, what }) =>
      operatorCommand(`credential ${index} ${what}`, async (world) => {
        const { model, ledger } = world
        const credential = model.credentials[index]!
        const atMs = ledger.host.wall
        if (what === 'revoke') {
          credential.revokedAt ??= atMs
          await ledger.commits.submit(() => perform('credentialRevoke', credential.id, atMs, null))
        } else if (what === 'expire') credential.expiresAt = atMs + 60_000
        else if (credential.revokedAt === null) {
          for (const other of model.credentials) if (other.userId === credential.userId) other.primary = false
          credential.primary = true
        }
        await edit(world, index)
      }),
    ),
)

/** Writes what the model holds of a credential. */
async function edit(world: World, index: number): Promise<void> {
  const { id, userId, daily, expiresAt, primary } = world.model.credentials[index]!
  const atMs = world.ledger.host.wall
  await world.ledger.commits.submit(function* (): Transaction<void> {
    if (primary) yield* perform('credentialDemotePrimary', userId, atMs)
    yield* perform('credentialEdit', id, {
      name: null,
      dailyLimitMicros: daily,
      expiresAtMs: expiresAt,
      isPrimary: primary ? 1 : 0,
      atMs,
    })
  })
}

async function unfreeze(world: World, act: Act): Promise<void> {
  world.model.unfreezeSystem()
  departure.set(world.model, 0)
  await world.ledger.freeze.unfreezeSystem(act)
}

const restart = fc.constantFrom(true, false, false, false, false).map(
  (reboots) =>
    new Command(reboots ? 'reboot' : 'restart', async (world) => {
      if (reboots) world.ledger.host.reboot()
      world.model.restart()
      departure.set(world.model, 0)
      await world.ledger.restart(reboots)
      checkEntries(world, true)
    }),
)

const sweep = fc.constant(
  new Command('sweep', async (world) => {
    world.model.sweep()
    await world.ledger.sweep()
    checkEntries(world, false)
  }),
)

const commands = fc.commands(
  [
    anyStep.map((one) => together([one])),
    anyStep.map((one) => together([one])),
    anyStep.map((one) => together([one])),
    readStep.map((one) => together([one])),
    fc.array(anyStep, { minLength: 2, maxLength: 8 }).map(together),
    clockCommands,
    operatorCommands,
    restart,
    sweep,
  ],
  { size: '+1', maxCommands: 26 },
)

/** Runs start near midnight as often as not. */
const starts = ['2026-11-23T23:58:00Z', '2028-02-28T23:59:00Z', '2026-06-01T12:00:00Z'].map((time) =>
  Date.parse(time),
)

async function begin(ledger: InProcessLedger, run: number, start: number, scale: bigint): Promise<World> {
  const { host } = ledger
  host.wall = start
  await ledger.freeze.unfreezeSystem(ledger.act())
  const next = ledger.database
    .prepare(
      `SELECT (SELECT coalesce(max(reservation_id), 0) + 1 FROM reservations) AS hold,
        (SELECT coalesce(max(position_id), 0) + 1 FROM positions) AS position`,
    )
    .safeIntegers(false)
    .get() as { hold: number; position: number }
  const model = new Model(host.wall, next)
  const world = new World(ledger, model, `run${run}`, scale)
  const limits = {
    perTrade: world.amount(usd(100)),
    daily: world.amount(usd(500)),
    exposure: world.amount(usd(500)),
  }
  for (const index of [0, 1]) {
    await ledger.users.put(ledger.act(), {
      userId: world.user(index),
      limits: { perTradeUsd: limits.perTrade, dailyUsd: limits.daily, exposureUsd: limits.exposure },
    })
    model.users.set(world.user(index), { ...limits, frozen: null })
  }
  for (const [index, daily] of [
    [0, usd(300)],
    [0, null],
    [1, usd(300)],
  ] as const) {
    const userId = world.user(index)
    const primary = !model.credentials.some((credential) => credential.userId === userId)
    const scaled = daily === null ? null : world.amount(daily)
    const id = await ledger.credential(userId, scaled, primary)
    model.credentials.push({ id, userId, primary, daily: scaled, revokedAt: null, expiresAt: null })
  }
  world.lastSeq = ledger.lastSeq
  return world
}

async function property(promises: boolean, numRuns: number): Promise<void> {
  let run = 0
  let ledger: InProcessLedger | null = null
  const scales = fc.constantFrom(1n, 1n, 1_000_000_000n)
  try {
    const first = fc.array(spendStep, { maxLength: 4 }).map(together)
    const holds = fc.asyncProperty(
      fc.constantFrom(...starts),
      scales,
      first,
      commands,
      async (start, scale, opening, list) => {
        if (run++ % runsPerStore === 0) {
          await ledger?.close()
          ledger = null
        }
        ledger ??= await InProcessLedger.open({ wallMs: start, promises })
        const world = await begin(ledger, run, start, scale)
        await opening.run(world.model, world)
        await fc.asyncModelRun(() => ({ model: world.model, real: world }), list)
      },
    )
    await fc.assert(holds, { numRuns, seed })
  } finally {
    await (ledger as InProcessLedger | null)?.close()
  }
}

describe('the ledger does what its model does', () => {
  test('with a store that answers at once', () => property(false, runs(1200)), timeoutMs)
  test('with a store that answers by promises', () => property(true, runs(400)), timeoutMs)
})
