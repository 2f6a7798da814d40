import type { Line } from '../rpc/line.ts'

/** A connection as the queue sees it. */
export type Waiting = {
  /** The next line to carry out, or undefined while there is none or the connection has to wait. */
  next(isLarge: (line: Line) => boolean): Line | undefined
}

/** Things that are served one after another, round and round; a new one comes in at the end of the round. */
class Rotation<T> {
  readonly #items: T[] = []
  #position = 0

  get size(): number {
    return this.#items.length
  }

  get current(): T | undefined {
    return this.#items[this.#position]
  }

  add(item: T): void {
    this.#items.push(item)
  }

  remove(item: T): void {
    const index = this.#items.indexOf(item)
    if (index === -1) return
    this.#items.splice(index, 1)
    if (index < this.#position) this.#position--
    if (this.#position >= this.#items.length) this.#position = 0
  }

  advance(): void {
    this.#position = this.#position + 1 < this.#items.length ? this.#position + 1 : 0
  }
}

/** Whose turn it may be. */
export type TurnHolder = { readonly isAdmin: boolean }

type Holding<Connection> = { readonly of: TurnHolder; readonly connections: Rotation<Connection> }

/**
 * Connections with lines that wait, and whose turn it is: admins and others take turns, within each the holders (a
 * client, an admin's uid, all callers without a grant), and within a holder its connections. So an admin waits for one
 * line of somebody else, and nobody is served more often for having more connections.
 */
export class TurnQueue<Connection extends Waiting> {
  readonly #admins = new Rotation<Holding<Connection>>()
  readonly #others = new Rotation<Holding<Connection>>()
  readonly #holdings = new Map<TurnHolder, Holding<Connection>>()
  /** Where each connection waits. */
  readonly #places = new Map<Connection, Holding<Connection>>()
  #adminsNext = true

  get size(): number {
    return this.#places.size
  }

  /** Has `connection` wait as one of `holder`; one that waits keeps its place. */
  add(connection: Connection, holder: TurnHolder): void {
    if (this.#places.has(connection)) return
    let holding = this.#holdings.get(holder)
    if (holding === undefined) {
      holding = { of: holder, connections: new Rotation() }
      this.#holdings.set(holder, holding)
      this.#sideOf(holder).add(holding)
    }
    holding.connections.add(connection)
    this.#places.set(connection, holding)
  }

  /** Answers whether it waited. */
  delete(connection: Connection): boolean {
    const holding = this.#places.get(connection)
    if (holding === undefined) return false
    this.#places.delete(connection)
    holding.connections.remove(connection)
    if (holding.connections.size === 0) {
      this.#sideOf(holding.of).remove(holding)
      this.#holdings.delete(holding.of)
    }
    return true
  }

  #sideOf(holder: TurnHolder): Rotation<Holding<Connection>> {
    return holder.isAdmin ? this.#admins : this.#others
  }

  /** A new turn of the event loop begins with admins. */
  begin(): void {
    this.#adminsNext = true
  }

  /** The line whose turn it is, taken from its connection; null where nobody has one. */
  take(isLarge: (line: Line) => boolean): { connection: Connection; line: Line } | null {
    for (;;) {
      const isAdmins = (this.#adminsNext && this.#admins.size > 0) || this.#others.size === 0
      const side = isAdmins ? this.#admins : this.#others
      const holding = side.current
      const connection = holding?.connections.current
      if (holding === undefined || connection === undefined) return null
      const line = connection.next(isLarge)
      if (line === undefined) {
        this.delete(connection)
        continue
      }
      this.#adminsNext = !isAdmins
      holding.connections.advance()
      side.advance()
      return { connection, line }
    }
  }
}
