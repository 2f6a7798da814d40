import type { Act, Binding, ReleaseGuard } from '../service/act.ts'
import { isBound } from '../service/act.ts'

/** An answer on its way to a connection. `done` runs once its bytes are made (or dropped): it lets go of secrets. */
export type Outgoing = {
  readonly body: unknown
  readonly guards: readonly ReleaseGuard[]
  readonly done: () => void
}

/** A connection as the hand-over sees it. */
export type Outlet = {
  /** Takes an answer for the next write. */
  enqueue(outgoing: Outgoing): void
  /** Gives the kernel what was enqueued. */
  write(): void
}

/** An answer with secrets or a grant that purser still holds: waiting for the rest of its batch, or queued behind a slow reader. */
export type HeldAnswer = { readonly guards: readonly ReleaseGuard[]; broken(binding: Binding): void }

type Ready = { readonly act: Act; readonly deliver: () => void }

/**
 * The last step of every request. Answers become ready in any order, in the microtasks after a commit; they are handed
 * over in the order of execution once those have run. An act that binds (revoke, replace, ...) takes effect at its
 * place: everything before it is with the kernel, and what it forbids and purser still holds is dropped, before its
 * own answer is written.
 */
export class HandOver {
  #ready: Ready[] = []
  #scheduled = false
  readonly #dirty = new Set<Outlet>()
  readonly #held = new Set<HeldAnswer>()

  /** Announces that `act` is finished; `deliver` enqueues its answer. */
  ready(act: Act, deliver: () => void): void {
    this.#ready.push({ act, deliver })
    if (this.#scheduled) return
    this.#scheduled = true
    // After the microtask queue has run dry, so that every answer of this commit is here before the first one leaves.
    process.nextTick(() => this.flush())
  }

  /** `outlet` has answers for the next write. */
  touch(outlet: Outlet): void {
    this.#dirty.add(outlet)
  }

  /** Hands over what is ready. */
  flush(): void {
    this.#scheduled = false
    const ready = this.#ready
    this.#ready = []
    if (!inOrder(ready)) ready.sort((a, b) => a.act.order - b.act.order)
    for (const { act, deliver } of ready) {
      if (act.bindings.length > 0) {
        this.#writeAll()
        for (const binding of act.bindings) this.#bind(binding)
      }
      deliver()
    }
    this.#writeAll()
  }

  /** Remembers an answer that stays in purser for now, until `letGo`. */
  hold(answer: HeldAnswer): void {
    this.#held.add(answer)
  }

  letGo(answer: HeldAnswer): void {
    this.#held.delete(answer)
  }

  #bind(binding: Binding): void {
    for (const answer of this.#held) {
      if (!answer.guards.some((guard) => isBound(guard, binding))) continue
      this.#held.delete(answer)
      answer.broken(binding)
    }
  }

  #writeAll(): void {
    for (const outlet of this.#dirty) outlet.write()
    this.#dirty.clear()
  }
}

function inOrder(ready: readonly Ready[]): boolean {
  for (let index = 1; index < ready.length; index++) {
    if (ready[index]!.act.order < ready[index - 1]!.act.order) return false
  }
  return true
}
