import type fc from 'fast-check'
import { expect } from 'vitest'
import { PurserError } from '../../src/errors.ts'
import type { Act } from '../../src/service/act.ts'
import type { InProcessLedger } from './in-process.ts'
import type { Entry, Model, Outcome } from './model.ts'

/** What one run works with. Users and trades are named by the run, so that runs share a store without meeting. */
export class World {
  readonly ledger: InProcessLedger
  readonly model: Model
  readonly name: string
  /** Amounts are this many times larger: 10^9 takes the limits to the largest there are, past 2^53 micro-dollars. */
  readonly scale: bigint
  lastSeq: number

  constructor(ledger: InProcessLedger, model: Model, name: string, scale: bigint) {
    this.ledger = ledger
    this.model = model
    this.name = name
    this.scale = scale
    this.lastSeq = ledger.lastSeq
  }

  user(index: number): string {
    return index === 2 ? 'nobody' : `${this.name}-${['alice', 'bob'][index]}`
  }

  /** The first two are alice's, the third bob's, then one that nobody has. */
  credential(index: number | undefined): number | undefined {
    return index === undefined ? undefined : (this.model.credentials[index]?.id ?? 999_999_999)
  }

  hold(index: number): string {
    const { holds } = this.model
    if (holds.length === 0 || index === 32) return ['r999999999', 'r0', 'p1', 'r01', 'x'][index % 5]!
    return holds[holds.length - 1 - (index % holds.length)]!.id
  }

  position(index: number): string {
    const { positions } = this.model
    if (positions.length === 0 || index === 32) return ['p999999999', 'p0', 'r1', 'p01', ''][index % 5]!
    return positions[positions.length - 1 - (index % positions.length)]!.id
  }

  amount(micros: bigint): bigint
  amount(micros: bigint | undefined): bigint | undefined
  amount(micros: bigint | undefined): bigint | undefined {
    return micros === undefined ? undefined : micros * this.scale
  }
}

/** One act on both sides; what it asks is decided when it runs, by what there is then. */
export type Step = {
  readonly text: string
  readonly model: (world: World) => Outcome
  readonly real: (world: World, act: Act) => Promise<unknown>
}

async function outcomeOf(answer: () => Promise<unknown>): Promise<Outcome> {
  try {
    return { ok: await answer() }
  } catch (error) {
    if (!(error instanceof PurserError)) throw error
    const { issues, ...data } = error.data as { issues?: { path: string }[] }
    return {
      error: { type: error.type, ...data, ...(issues === undefined ? {} : { path: issues[0]!.path }) },
    }
  }
}

/** Since when the clock is in doubt is when somebody looked: no matter of the ledger's. */
function withoutLook(outcome: Outcome): Outcome {
  const text = JSON.stringify(outcome, (_name, value) => {
    const clock = typeof value === 'object' && value !== null && value.reason === 'clock'
    return clock ? { ...value, since: 0 } : typeof value === 'bigint' ? `${value}n` : value
  })
  return JSON.parse(text)
}

/** Whether the audit log got exactly the entries the model tells of; holds of earlier runs may expire as well. */
export function checkEntries(world: World, inOrder: boolean): void {
  const rows = world.ledger.entriesAfter(world.lastSeq)
  world.lastSeq += rows.length
  const got: Entry[] = rows
    .filter(({ userId }) => userId === null || userId === 'nobody' || userId.startsWith(`${world.name}-`))
    .map(({ action, outcome, userId, credentialId }) => ({
      action,
      outcome: outcome as Entry['outcome'],
      userId,
      credentialId,
    }))
  const ordered = (entries: Entry[]) =>
    inOrder ? entries : entries.map((entry) => JSON.stringify(entry)).sort()
  expect(ordered(got)).toEqual(ordered(world.model.entries))
  world.model.entries = []
}

export class Command implements fc.AsyncCommand<Model, World> {
  readonly #text: string
  readonly #run: (world: World) => Promise<void>

  constructor(text: string, run: (world: World) => Promise<void>) {
    this.#text = text
    this.#run = run
  }

  check(): boolean {
    return true
  }

  async run(_model: Model, world: World): Promise<void> {
    await this.#run(world)
  }

  toString(): string {
    return this.#text
  }
}

/** Acts that are submitted together: what comes out is what comes out one after the other, in the order they ran. */
export function together(steps: readonly Step[]): Command {
  const text = steps.map((step) => step.text).join(' | ')
  return new Command(text, async (world) => {
    const ran = steps.map((step) => {
      const act = world.ledger.act()
      // What is asked is read from the model before anything of this turn has run.
      const model = step.model
      return { act, model, outcome: outcomeOf(() => step.real(world, act)) }
    })
    const got: { order: number; model: Step['model']; outcome: Outcome }[] = []
    for (const { act, model, outcome } of ran) got.push({ outcome: await outcome, model, order: act.order })
    got.sort((a, b) => a.order - b.order)
    for (const { model, outcome } of got) expect(withoutLook(outcome)).toEqual(withoutLook(model(world)))
    checkEntries(world, steps.length === 1)
  })
}
