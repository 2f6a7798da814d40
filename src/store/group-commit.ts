import { PurserError } from '../errors.ts'
import type { Engine, Operation, Transaction } from './operations.ts'
import { writes } from './operations.ts'

/** Jobs in one commit at most: bounds how long one turn holds the event loop (about 20 us a job). */
const batchJobsMax = 512
/** A commit is closed early when its jobs have run this long, so that nothing holds the loop for 50 ms. */
const batchMs = 20
/** Jobs waiting for their turn at most; more is Overloaded. Above every bound on requests in flight, so a backstop. */
const queuedJobsMax = 65_536

/** What one job adds to its commit besides its own operations. */
export type Unit<Entry> = {
  /** Appends an audit entry in the same commit, after the job's own operations and only if they succeed. */
  audit(entry: Entry): void
  /** Calls `tell`, which must not throw, once the commit is on disk; never where the job or its commit fails. */
  afterCommit(tell: () => void): void
}

/** How entries get into the store: the audit room's writer. */
export type EntryWriter<Entry> = {
  append(entry: Entry): Transaction<void>
  /** What was appended for the job that runs was rolled back. */
  undone(): void
  /** Last operations before the commit. */
  beforeCommit(): Transaction<void>
  /** The commit happened, or all of it was rolled back: keep or forget what append changed in memory. */
  settled(committed: boolean): void
}

/**
 * Where a job stood in the order of execution; rises for ever. Answers are handed over in this order. `check` runs
 * before the job's own work, in its place in that order, and refuses the job by throwing.
 */
export type Order = { order: number; check(): void }

/**
 * What undoes a job that throws behind its first write: a savepoint of its own; or the end of the whole batch, for work
 * that makes every decision before it writes, so that only a failing store can stop it there. A savepoint costs as much
 * as two writes.
 */
export type Undo = 'savepoint' | 'batch'

type Job<Entry> = {
  readonly work: (unit: Unit<Entry>) => Transaction<unknown>
  readonly undo: Undo
  readonly refused: ((error: unknown) => Entry | null) | null
  readonly place: Order | null
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
  readonly tells: (() => void)[]
  outcome: { ok: true; value: unknown } | { ok: false; error: unknown }
}

export type GroupCommitFigures = {
  commits: number
  jobs: number
  failures: number
  /** Jobs that wait for a commit. */
  queued: number
  largestBatch: number
}

/** Raised inside a batch when the engine has lost the whole transaction. */
class BatchLost extends Error {
  constructor(cause: unknown) {
    super('transaction lost', { cause })
  }
}

/** Raised inside a job when an entry of it cannot be written, for whatever reason. */
class EntryNotWritten extends Error {
  constructor(cause: unknown) {
    super('entry not written', { cause })
  }
}

const notRun = { ok: false, error: new PurserError('StorageUnavailable') } as const

/**
 * One transaction for all jobs of a turn of the event loop: each in a savepoint of its own, one commit (one fsync),
 * and only then the promises settle, in the order of execution. A job is a generator of operations and cannot await
 * anything else. With an engine that answers at once a batch runs within one synchronous call; with one that answers
 * by promises the same steps are awaited one by one, and the next batch waits.
 */
export class GroupCommit<Entry> {
  readonly #engine: Engine
  readonly #writer: EntryWriter<Entry>
  readonly #onFailure: (error: unknown) => void
  #queue: Job<Entry>[] = []
  #running = false
  #scheduled = false
  #order = 0
  #idle: (() => void)[] = []
  readonly #counted = { commits: 0, jobs: 0, failures: 0, largestBatch: 0 }
  #failing = false
  #closed = false
  /** Of the batch that runs: whether it has written, and whether the store failed a part of it. */
  #wrote = false
  #hurt = false

  /** `onFailure` hears of every commit that failed, for the log. */
  constructor(engine: Engine, writer: EntryWriter<Entry>, onFailure: (error: unknown) => void) {
    this.#engine = engine
    this.#writer = writer
    this.#onFailure = onFailure
  }

  /**
   * Queues `work` for the next commit; resolves with its result once that commit is on disk. If the work throws, its
   * operations are undone (see Undo) and `refused` may give an audit entry to write in their place. Rejects with what
   * the work threw, with StorageUnavailable where the store failed, or Overloaded.
   */
  submit<T>(
    work: (unit: Unit<Entry>) => Transaction<T>,
    place: Order | null = null,
    refused: ((error: unknown) => Entry | null) | null = null,
    undo: Undo = 'savepoint',
  ): Promise<T> {
    if (this.#closed || this.#queue.length >= queuedJobsMax)
      return Promise.reject(new PurserError('Overloaded', { retryAfterMs: 100 }))
    const promise = new Promise<T>((resolve, reject) => {
      this.#queue.push({
        work,
        undo,
        refused,
        place,
        resolve: resolve as (value: unknown) => void,
        reject,
        tells: [],
        outcome: notRun,
      })
    })
    this.#schedule()
    return promise
  }

  get figures(): GroupCommitFigures {
    return { ...this.#counted, queued: this.#queue.length }
  }

  /** Whether the store failed when something was last to be written. Reads tell nothing: they work on a full disk. */
  get failing(): boolean {
    return this.#failing
  }

  /** The order of the latest job that ran. */
  get latestOrder(): number {
    return this.#order
  }

  /** Runs what is queued now instead of at the end of the turn. */
  flush(): void {
    if (this.#running || this.#queue.length === 0) return
    this.#running = true
    const jobs = this.#queue.length <= batchJobsMax ? this.#queue : this.#queue.slice(0, batchJobsMax)
    this.#queue = this.#queue.length <= batchJobsMax ? [] : this.#queue.slice(batchJobsMax)
    const pending = runSteps(this.#engine, this.#batch(jobs))
    if (pending === undefined) this.#settled()
    else
      pending.then(
        () => this.#settled(),
        () => this.#settled(),
      )
  }

  /** Takes no more jobs: what comes is Overloaded. Resolves when what came before is done. */
  close(): Promise<void> {
    this.#closed = true
    return this.idle()
  }

  /** Resolves when nothing is queued or running. */
  idle(): Promise<void> {
    if (!this.#running && this.#queue.length === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }

  #schedule(): void {
    if (this.#scheduled || this.#running) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.flush()
    })
  }

  #settled(): void {
    this.#running = false
    if (this.#queue.length > 0) this.#schedule()
    else for (const resolve of this.#idle.splice(0)) resolve()
  }

  *#batch(jobs: Job<Entry>[]): Steps {
    let ran = 0
    this.#wrote = false
    this.#hurt = false
    try {
      yield 'begin'
      const startedAtMs = performance.now()
      for (const job of jobs) {
        yield* this.#run(job)
        ran++
        if (performance.now() - startedAtMs > batchMs) break
      }
      yield* operations(this.#writer.beforeCommit())
      if (!this.#engine.inTransaction) throw new BatchLost(null)
      yield 'commit'
      this.#count(ran)
      this.#writer.settled(true)
    } catch (error) {
      yield* this.#abandon(jobs, error)
      return
    }
    if (ran < jobs.length) this.#queue = jobs.slice(ran).concat(this.#queue)
    for (let index = 0; index < ran; index++) settle(jobs[index]!)
  }

  #count(ran: number): void {
    this.#counted.commits++
    this.#counted.jobs += ran
    if (ran > this.#counted.largestBatch) this.#counted.largestBatch = ran
    if (this.#wrote && !this.#hurt) this.#failing = false
  }

  #fail(error: unknown): PurserError {
    this.#hurt = true
    this.#failing = true
    this.#onFailure(error)
    return new PurserError('StorageUnavailable', {}, { cause: error })
  }

  /** The commit did not happen: whatever a job believed, the store does not say so. */
  *#abandon(jobs: Job<Entry>[], error: unknown): Steps {
    this.#counted.failures++
    try {
      if (this.#engine.inTransaction) yield 'rollback'
    } catch {
      // Nothing to roll back any more: SQLite did it by itself.
    }
    this.#writer.settled(false)
    const lost = this.#fail(error instanceof BatchLost ? (error.cause ?? error) : error)
    for (const job of jobs) {
      job.outcome = { ok: false, error: lost }
      settle(job)
    }
  }

  *#run(job: Job<Entry>): Steps {
    const entries: Entry[] = []
    if (job.place !== null) job.place.order = ++this.#order
    // Whether this job has written, and whether it has a savepoint to go back to.
    let wrote = false
    let saved = false
    try {
      job.place?.check()
      const work = job.work({
        audit: (entry) => entries.push(entry),
        afterCommit: (tell) => job.tells.push(tell),
      })
      let step = work.next()
      while (!step.done) {
        if (!wrote && writes.has(step.value.name)) {
          wrote = true
          if (job.undo === 'savepoint') {
            yield 'savepoint'
            saved = true
          }
        }
        let result: unknown
        try {
          result = yield step.value
        } catch (error) {
          // Whatever the job would make of it: behind a lost transaction each statement commits by itself.
          if (!this.#engine.inTransaction) throw error
          step = work.throw(error)
          continue
        }
        step = work.next(result)
      }
      // A single statement undoes itself when it fails; only several need the savepoint.
      if (!wrote && entries.length > 1) {
        yield 'savepoint'
        saved = true
      }
      for (const entry of entries) {
        yield* this.#append(entry)
        wrote = true
      }
      if (saved) yield 'release'
      if (wrote) this.#wrote = true
      job.outcome = { ok: true, value: step.value }
    } catch (error) {
      if (!this.#engine.inTransaction || (wrote && !saved)) throw new BatchLost(error)
      if (saved) {
        yield 'rollbackToSavepoint'
        yield 'release'
        this.#writer.undone()
      }
      yield* this.#refuse(job, error)
    }
  }

  *#append(entry: Entry): Steps {
    try {
      yield* operations(this.#writer.append(entry))
    } catch (error) {
      throw new EntryNotWritten(error)
    }
  }

  /** No entry, no answer: where the refusal's own entry cannot be written it is StorageUnavailable like all else. */
  *#refuse(job: Job<Entry>, error: unknown): Steps {
    if (error instanceof EntryNotWritten || this.#engine.isStorageError(error)) {
      job.outcome = { ok: false, error: this.#fail(error instanceof EntryNotWritten ? error.cause : error) }
      return
    }
    job.outcome = { ok: false, error }
    const entry = job.refused?.(error) ?? null
    if (entry === null) return
    try {
      yield* operations(this.#writer.append(entry))
      this.#wrote = true
    } catch (failure) {
      if (!this.#engine.inTransaction) throw new BatchLost(failure)
      job.outcome = { ok: false, error: this.#fail(failure) }
    }
  }
}

type Control = Parameters<Engine['control']>[0]
type Steps = Generator<Operation | Control, void, unknown>

function* operations(transaction: Transaction<void>): Steps {
  yield* transaction
}

function settle(job: Job<unknown>): void {
  if (!job.outcome.ok) {
    job.reject(job.outcome.error)
    return
  }
  for (const tell of job.tells) tell()
  job.resolve(job.outcome.value)
}

function runStep(engine: Engine, step: Operation | Control): unknown {
  return typeof step === 'string' ? engine.control(step) : engine.execute(step)
}

/** Steps to the end at once while the engine answers at once; from the first promise on, awaits. */
function runSteps(engine: Engine, steps: Steps): Promise<void> | undefined {
  let next = steps.next()
  while (!next.done) {
    let result: unknown
    try {
      result = runStep(engine, next.value)
    } catch (error) {
      next = steps.throw(error)
      continue
    }
    if (result instanceof Promise) return awaitSteps(engine, steps, result)
    next = steps.next(result)
  }
  return undefined
}

async function awaitSteps(engine: Engine, steps: Steps, first: Promise<unknown>): Promise<void> {
  let pending: unknown = first
  for (;;) {
    let next: IteratorResult<Operation | Control, void>
    let result: unknown
    try {
      result = await pending
    } catch (error) {
      next = steps.throw(error)
      if (next.done) return
      pending = attempt(engine, next.value)
      continue
    }
    next = steps.next(result)
    if (next.done) return
    pending = attempt(engine, next.value)
  }
}

/** A step whose synchronous throw becomes a rejection, so that awaitSteps has one place for errors. */
function attempt(engine: Engine, step: Operation | Control): Promise<unknown> {
  return new Promise((resolve) => resolve(runStep(engine, step)))
}
