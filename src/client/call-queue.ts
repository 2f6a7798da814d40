import type { Call } from './call.ts'

/** Calls that wait for a place on a connection, first come first served. Any of them may leave in O(1). */
export class CallQueue {
  #first: Call | null = null
  #last: Call | null = null
  #size = 0

  get size(): number {
    return this.#size
  }

  push(call: Call): void {
    call.previous = this.#last
    if (this.#last === null) this.#first = call
    else this.#last.next = call
    this.#last = call
    this.#size += 1
  }

  /** Puts a call before all others: one that had its turn already. */
  unshift(call: Call): void {
    call.next = this.#first
    if (this.#first === null) this.#last = call
    else this.#first.previous = call
    this.#first = call
    this.#size += 1
  }

  shift(): Call | null {
    const call = this.#first
    if (call !== null) this.remove(call)
    return call
  }

  /** Takes out a call; one that is not in the queue is left alone. */
  remove(call: Call): void {
    if (call.previous === null && this.#first !== call) return
    if (call.previous === null) this.#first = call.next
    else call.previous.next = call.next
    if (call.next === null) this.#last = call.previous
    else call.next.previous = call.previous
    call.previous = null
    call.next = null
    this.#size -= 1
  }
}
