import { randomUUID } from 'node:crypto'
import type { JSONRPCErrorResponse, JSONRPCRequest, JSONRPCResponse } from 'json-rpc-2.0'
import { JSONRPCServer } from 'json-rpc-2.0'
import { authorize, authorizeAbout, type RoledCaller } from '../access/caller.ts'
import type { Identity } from '../access/identity.ts'
import { type ParamIssue, PurserError } from '../errors.ts'
import type { Logger } from '../log.ts'
import type { Act, Commits, ReleaseGuard } from '../service/act.ts'
import { answerGuard, recordRefusal } from '../service/act.ts'
import type { Metrics } from '../service/metrics.ts'
import { diskLowError } from '../service/system.ts'
import type { HandOver, HeldAnswer, Outlet } from './hand-over.ts'
import {
  errorResponse,
  invalidLine,
  isRequest,
  type Line,
  refusedLine,
  refusedMember,
  wipeSecrets,
} from './line.ts'
import type { Context, Method, Services } from './method.ts'
import { checkParams } from './params.ts'
import type { Session } from './session.ts'

/** Characters that the large answers of one batch may have; what is beyond is asked for in another batch. */
const batchLargeMax = 4 * 1024 * 1024
/** How often an answer overtaken on its way out is made anew before the caller is told to come back. */
const remadeMax = 3

/** Where a line's answer goes and who asked. */
export type Asker = Outlet & {
  readonly session: Session
  /** The requests of a line are answered. */
  finished(line: Line): void
}

type Call = { readonly context: Context; readonly issues: readonly ParamIssue[] | undefined }

/**
 * From a parsed line to its answer: decides what is a request, carries requests out through json-rpc-2.0 and hands the
 * answers over in the order of execution.
 */
export class Dispatcher {
  readonly #server = new JSONRPCServer<Call>({ errorListener: () => undefined })
  readonly #methods: ReadonlyMap<string, Method>
  readonly #services: Services
  readonly #commits: Commits
  readonly #handOver: HandOver
  readonly #log: Logger
  readonly #metrics: Metrics
  readonly #diskLow: () => boolean
  readonly #discover: () => unknown

  constructor(parts: {
    methods: readonly Method[]
    services: Services
    commits: Commits
    handOver: HandOver
    log: Logger
    metrics: Metrics
    diskLow: () => boolean
    discover: () => unknown
  }) {
    this.#methods = new Map(parts.methods.map((method) => [method.name, method]))
    this.#services = parts.services
    this.#commits = parts.commits
    this.#handOver = parts.handOver
    this.#log = parts.log
    this.#metrics = parts.metrics
    this.#diskLow = parts.diskLow
    this.#discover = parts.discover
    for (const method of parts.methods) {
      this.#server.addMethodAdvanced(method.name, (request, call) => this.#carryOut(method, request, call!))
    }
    // Its own answer has neither our data nor our hint.
    this.#server.handleMethodNotFound = (request) =>
      Promise.resolve(errorResponse(request.id, new PurserError('MethodNotFound')))
    this.#server.mapErrorToJSONRPCErrorResponse = (id, error) =>
      errorResponse(id, this.#expected(error)) as JSONRPCErrorResponse
  }

  /** Whether a method named in a line may answer with much; one of those at a time is enough of a connection. */
  isLarge({ value }: Line): boolean {
    if (!Array.isArray(value)) return this.#answersLarge(value)
    return value.some((member) => this.#answersLarge(member))
  }

  #answersLarge(value: unknown): boolean {
    if (typeof value !== 'object' || value === null) return false
    return this.#methods.get((value as { method: string }).method)?.large === true
  }

  /** Carries out one line; `asker.finished` is told once. */
  dispatch(asker: Asker, line: Line): void {
    const invalid = invalidLine(line)
    if (invalid !== null) this.#answer(asker, line, invalid)
    else if (Array.isArray(line.value)) this.#batch(asker, line.value, line)
    else this.#single(asker, line.value as JSONRPCRequest, line)
  }

  /** Refuses a whole line with one error for each of its requests; notifications are dropped. */
  refuse(asker: Asker, line: Line, error: PurserError): void {
    this.#answer(asker, line, refusedLine(line, error))
  }

  /** Answers a line without carrying it out; null for no answer. */
  #answer(asker: Asker, line: Line, response: object | null): void {
    wipeSecrets(line)
    this.#handOver.ready(newAct(asker.session, this.#commits.latestOrder), () => {
      if (response !== null) asker.enqueue({ body: response, guards: [], done: () => undefined })
      this.#finished(asker, line)
    })
  }

  #single(asker: Asker, request: JSONRPCRequest, line: Line): void {
    const issues = line.issues?.get(request)
    let remade = 0
    // Also where it is made anew: what a session.hello behind it has changed is not for it.
    const { identity } = asker.session
    const run = () => {
      this.#receive(asker.session, identity, request, issues, (act, response) => {
        if (!isCurrent(act.guard) && remade++ < remadeMax) {
          finish(act)
          run()
          return
        }
        wipeSecrets(line)
        if (response === null) finish(act)
        else {
          const body = isCurrent(act.guard) ? response : errorResponse(request.id, overtaken())
          asker.enqueue({ body, guards: act.guard === null ? [] : [act.guard], done: () => finish(act) })
        }
        this.#finished(asker, line)
      })
    }
    run()
  }

  #batch(asker: Asker, members: readonly unknown[], line: Line): void {
    const slots: Slot[] = members.map(() => ({
      identity: null,
      response: null,
      act: null,
      held: null,
      stale: false,
      remade: 0,
    }))
    let left = members.length
    let started = 0
    let largeLength = 0
    const run = (index: number) => {
      const slot = slots[index]!
      const member = members[index]
      const isLarge = this.#answersLarge(member)
      const arrived = (act: Act, response: JSONRPCResponse | null) => {
        Object.assign(slot, {
          response,
          act,
          stale: false,
          held: this.#hold(slot, act, isRequest(member) ? member.id : null),
        })
        if (--left === 0) complete()
        else if (isLarge && started < members.length) {
          largeLength += JSON.stringify(response).length
          startMore()
        }
      }
      // Behind a session.hello that was refused nothing is carried out.
      const error = asker.session.closing
        ? new PurserError('Forbidden', { scope: null })
        : isLarge && largeLength > batchLargeMax
          ? answersTooMuch()
          : null
      if (error === null && isRequest(member)) {
        slot.identity ??= asker.session.identity
        this.#receive(asker.session, slot.identity, member, line.issues?.get(member), arrived)
        return
      }
      const act = newAct(asker.session, this.#commits.latestOrder)
      this.#handOver.ready(act, () => arrived(act, refusedMember(member, error!)))
    }
    // In their order, and nothing beside a large one or before it has its answer.
    const startMore = () => {
      while (started < members.length) {
        const index = started++
        run(index)
        if (this.#answersLarge(members[index])) return
      }
    }
    const complete = () => {
      const again = slots.flatMap((slot, index) =>
        slot.stale || !isCurrent(slot.act?.guard ?? null) ? [index] : [],
      )
      const remake = again.filter((index) => slots[index]!.remade++ < remadeMax)
      for (const index of again) this.#drop(slots[index]!, (members[index] as JSONRPCRequest).id)
      if (remake.length > 0) {
        left = remake.length
        for (const index of remake) run(index)
        return
      }
      wipeSecrets(line)
      this.#deliverBatch(asker, slots)
      this.#finished(asker, line)
    }
    startMore()
  }

  /** A member that is done while others are not: it stays in purser, so what binds meanwhile must find it. */
  #hold(slot: Slot, act: Act, id: JSONRPCRequest['id']): HeldAnswer | null {
    const { guard } = act
    if (guard === null) return null
    const held: HeldAnswer = {
      guards: [guard],
      broken: (binding) => {
        // Secrets are asked for anew; a grant must not be given a second time, so it is refused.
        if (guard.kind === 'secret') {
          slot.stale = true
          // Nobody is going to be given it: it is wiped now, not when the rest of the batch is done.
          finish(act)
        } else {
          const response = id === undefined ? null : errorResponse(id, binding.error)
          Object.assign(slot, { response, held: null })
        }
      },
    }
    this.#handOver.hold(held)
    return held
  }

  #drop(slot: Slot, id: JSONRPCRequest['id']): void {
    if (slot.held !== null) this.#handOver.letGo(slot.held)
    if (slot.act !== null) finish(slot.act)
    const response = id === undefined ? null : errorResponse(id, overtaken())
    Object.assign(slot, { response, act: null, held: null, stale: false })
  }

  #deliverBatch(asker: Asker, slots: Slot[]): void {
    const guards: ReleaseGuard[] = []
    for (const { act, held } of slots) {
      if (held !== null) this.#handOver.letGo(held)
      if (act !== null && act.guard !== null) guards.push(act.guard)
    }
    const done = () => {
      for (const { act } of slots) if (act !== null) finish(act)
    }
    const body = slots.flatMap(({ response }) => (response === null ? [] : [response]))
    if (body.length === 0) {
      done()
      return
    }
    asker.enqueue({ body, guards, done })
  }

  /** Counts a line out once its answer is enqueued, and has the outlet written: it may be waiting to end. */
  #finished(asker: Asker, line: Line): void {
    asker.finished(line)
    this.#handOver.touch(asker)
  }

  /** Runs one request and tells `arrived` when its answer's turn has come; null for a notification. */
  #receive(
    session: Session,
    identity: Identity,
    request: JSONRPCRequest,
    issues: readonly ParamIssue[] | undefined,
    arrived: (act: Act, response: JSONRPCResponse | null) => void,
  ): void {
    const act = newAct(session, this.#commits.latestOrder, identity)
    const context: Context = { services: this.#services, session, identity, act, discover: this.#discover }
    const startedAtMs = performance.now()
    // A notification is carried out like a request, and its answer dropped.
    const isNotification = request.id === undefined
    const ready = (response: JSONRPCResponse | null) => {
      const method = this.#methods.has(request.method) ? request.method : 'unknown'
      this.#metrics.request(method, outcomeOf(response), (performance.now() - startedAtMs) / 1000)
      this.#handOver.ready(act, () => arrived(act, isNotification ? null : response))
    }
    this.#server
      .receive(isNotification ? { ...request, id: null } : request, { context, issues })
      .then(ready, (error) => ready(errorResponse(request.id, this.#expected(error))))
  }

  #carryOut(method: Method, request: JSONRPCRequest, { context, issues }: Call): Promise<JSONRPCResponse> {
    const { id = null } = request
    const { act, identity } = context
    const { sealing } = this.#services
    let params: unknown
    try {
      authorize(identity, method.scope)
      params = checkParams(method.params, request.params, issues)
      authorizeAbout(identity, method.about, params)
      // Without a store there is nothing that a method's own transaction could look at.
      if (!sealing.hasStore()) sealing.permit(method)
      if (method.belowReserve === 'refused' && this.#diskLow()) throw diskLowError()
      act.check = () => {
        permit(method, identity, params)
        sealing.permit(method)
      }
      if (act.clientId !== null && method.scope !== 'anyone') act.guard = answerGuard(act)
      const result = method.handler(context, params)
      this.#services.clients.used(identity.entry)
      if (!(result instanceof Promise)) return Promise.resolve({ jsonrpc: '2.0', id, result })
      return result.then(
        (value) => ({ jsonrpc: '2.0', id, result: value }),
        (error) => this.#refused(method, act, params, error),
      )
    } catch (error) {
      return this.#refused(method, act, params, error)
    }
  }

  /** Every Forbidden is audited, wherever it arose; what else is refused has its entry by now. */
  async #refused(method: Method, act: Act, params: unknown, error: unknown): Promise<never> {
    if (error instanceof PurserError && error.type === 'Forbidden') {
      const userId = (params as { userId?: string } | undefined)?.userId ?? null
      const subject = { action: 'access_denied', userId, credentialId: null } as const
      await recordRefusal(this.#commits, act, subject, error, { method: method.name })
    }
    throw error
  }

  /** Anything that is not ours to tell becomes an InternalError whose id is in the log. */
  #expected(error: unknown): PurserError {
    if (error instanceof PurserError) return error
    const errorId = randomUUID()
    const stack = error instanceof Error ? error.stack : String(error)
    this.#log.error({ errorId, stack }, 'internal error')
    return new PurserError('InternalError', { errorId })
  }
}

type Slot = {
  /** Whose request it is, from when it first began. */
  identity: Identity | null
  response: JSONRPCResponse | null
  act: Act | null
  held: HeldAnswer | null
  /** Something bound while it waited. */
  stale: boolean
  remade: number
}

/** ok, or the type of the error; a notification's is not told. */
function outcomeOf(response: JSONRPCResponse | null): string {
  return response?.error === undefined
    ? 'ok'
    : ((response.error.data as { type?: string } | undefined)?.type ?? 'error')
}

function newAct(session: Session, order: number, identity = session.identity): Act {
  return {
    order,
    peer: session.peer,
    client: session.client,
    clientId: identity.clientId,
    caller: identity,
    guard: null,
    bindings: [],
    cleanups: [],
    check: () => undefined,
  }
}

/** Throws where the caller may not do what its act is about, as things stand now. */
function permit(method: Method, caller: RoledCaller, params: unknown): void {
  authorize(caller, method.scope)
  authorizeAbout(caller, method.about, params)
}

/** Lets go of what an act opened. */
function finish(act: Act): void {
  for (const cleanup of act.cleanups.splice(0)) cleanup()
}

function isCurrent(guard: ReleaseGuard | null): boolean {
  return guard === null || guard.expiresAtMs === null || guard.expiresAtMs > Date.now()
}

function overtaken(): PurserError {
  return new PurserError('Overloaded', { retryAfterMs: 100 })
}

function answersTooMuch(): PurserError {
  const text = { message: 'the answers of this batch are too long', hint: 'ask for this in another batch' }
  return new PurserError('Overloaded', { retryAfterMs: 100 }, text)
}
