import { beforeEach, describe, expect, test } from 'vitest'
import type { Role } from '../../src/access/caller.ts'
import type { Line } from '../../src/rpc/line.ts'
import { type Member, Shares } from '../../src/transport/shares.ts'

// Overload: a quarter is kept for admins, callers of role none hold 64 connections, no uid or client more than a quarter.

type Someone = Member & {
  session: { role: Role; clientId: number | null }
  busy: boolean
  lastRequestAtMs: number
  isCut: boolean
}

let shares: Shares<Someone>
let now = 0

beforeEach(() => {
  shares = new Shares()
})

const admin = (uid = 0) => ({ role: 'admin' as const, clientId: null, uid })
const none = (uid: number) => ({ role: 'none' as const, clientId: null, uid })
const client = (clientId: number, uid = 10_000 + clientId) => ({ role: 'client' as const, clientId, uid })

/** A connection of `who` if there is room for it. */
function come(who: { role: Role; clientId: number | null; uid: number }): Someone | null {
  const { uid, ...identity } = who
  const peer = { uid, gid: uid, pid: 1, comm: null, unit: null }
  const session = { peer, client: null, closing: false, ...identity }
  const someone: Someone = {
    session,
    busy: false,
    lastRequestAtMs: now++,
    isCut: false,
    cut: () => {
      someone.isCut = true
    },
  }
  if (!shares.makeRoom(session)) return null
  shares.join(someone)
  return someone
}

function comeMany(who: { role: Role; clientId: number | null; uid: number }, count: number): Someone[] {
  return Array.from({ length: count }, () => come(who)!)
}

const line = (requests: number, bytes = 100): Line => ({
  value: null,
  issues: null,
  secrets: [],
  error: null,
  requests,
  bytes,
})
const cut = (many: readonly Someone[]) => many.flatMap(({ isCut }, index) => (isCut ? [index] : []))

describe('connections', () => {
  test('at a thousand the idlest gives way, and where all are busy nobody comes in', () => {
    const first = comeMany(admin(), 1000)
    first[0]!.lastRequestAtMs = now++
    first[1]!.busy = true
    expect(come(admin())).not.toBeNull()
    expect(cut(first)).toEqual([2])
    for (const one of shares.members) one.busy = true
    expect(come(admin())).toBeNull()
    expect(shares.members.size).toBe(1000)
  })

  test("a quarter of them is kept for admins: others never hold more than 750, and an admin's get in", () => {
    const others = [1, 2, 3, 4].flatMap((id) => comeMany(client(id), 187))
    expect(others.every((one) => !one.isCut)).toBe(true)
    for (const one of others) one.busy = true
    for (const one of comeMany(client(5), 2)) one.busy = true
    expect(come(client(6))).toBeNull()
    const admins = comeMany(admin(), 250)
    expect(admins.every((one) => one !== null)).toBe(true)
    expect(cut(others)).toEqual([])
    expect(come(admin())).not.toBeNull()
    expect(shares.members.size).toBe(1000)
    expect(cut(admins)).toEqual([0])
  })

  test('no uid holds more than a quarter: who comes in beyond it displaces one of his own', () => {
    const bystander = come(client(1))!
    const crowd = Array.from({ length: 250 }, (_, n) => come(client(2 + n, 1001))!)
    expect(come(client(999, 1001))).not.toBeNull()
    expect(cut(crowd)).toEqual([0])
    expect(bystander.isCut).toBe(false)
    for (const one of crowd) one.busy = true
    expect(come(client(998, 1001))).not.toBeNull()
    for (const one of shares.members) one.busy = one !== bystander
    expect(come(client(997, 1001))).toBeNull()
    expect(come(client(997, 1002))).not.toBeNull()
  })

  test("nor does a client, whatever uids it comes from; an admin's uid may", () => {
    const crowd = Array.from({ length: 250 }, (_, n) => come(client(7, 2000 + n))!)
    expect(come(client(7, 1))).not.toBeNull()
    expect(cut(crowd)).toEqual([0])
    expect(comeMany(admin(), 700).every((one) => one !== null)).toBe(true)
    expect(cut(crowd)).toEqual([0])
  })

  test('callers of role none hold 64 together, and displace none but each other', () => {
    const bots = comeMany(client(1), 100)
    const admins = comeMany(admin(), 100)
    for (let uid = 100_000; uid < 165_536; uid++) expect(come(none(uid))).not.toBeNull()
    expect(shares.members.size).toBe(264)
    expect(cut([...bots, ...admins])).toEqual([])
  })

  test('a flood of one uid without a grant displaces its own, and keeps nobody out', () => {
    const others = [1, 2, 3].map((uid) => come(none(uid))!)
    const flood = comeMany(none(1001), 500)
    expect(cut(others)).toEqual([])
    expect(flood.filter(({ isCut }) => !isCut)).toHaveLength(61)
    // Not even by never ceasing to ask.
    for (const one of flood) one.busy = true
    expect(come(none(1001))).toBeNull()
    expect(come(none(4))).not.toBeNull()
    expect(cut(others)).toEqual([])
    expect(flood.filter(({ isCut }) => !isCut)).toHaveLength(60)
  })

  test('where the daemon is full nobody gives way to one who holds more', () => {
    const small = comeMany(client(1), 50)
    for (const id of [2, 3]) comeMany(client(id), 250)
    const mid = comeMany(client(4), 200)
    // 750 are there, and the idlest are of who holds least.
    const grown = comeMany(client(4), 30)
    expect(grown.every((one) => one !== null)).toBe(true)
    expect(cut(small)).toEqual([])
    expect(cut(mid)).toEqual([])
    expect(come(client(5))).not.toBeNull()
    expect(cut(small)).toEqual([0])
  })
})

describe('requests in flight', () => {
  const budget = 16_384

  test('all may take the budget, others than admins three quarters, one uid or client a quarter', () => {
    const [ours, other] = [come(client(1))!, come(client(1, 77))!]
    expect(shares.charge(ours, line(budget / 8))).toBe(true)
    expect(shares.charge(other, line(budget / 8))).toBe(true)
    expect(shares.charge(other, line(1))).toBe(false)
    shares.discharge(other, line(1))
    const sameUid = come(client(2, 77))!
    expect(shares.charge(sameUid, line(budget / 8))).toBe(true)
    expect(shares.charge(sameUid, line(1))).toBe(false)
    shares.discharge(sameUid, line(1))
    for (const id of [3, 4]) shares.charge(come(client(id))!, line((budget * 3) / 16))
    expect(shares.inFlight).toBe(budget * 0.75)
    const late = come(client(5))!
    expect(shares.charge(late, line(1))).toBe(false)
    shares.discharge(late, line(1))
    const boss = come(admin())!
    expect(shares.charge(boss, line(budget / 4))).toBe(true)
    expect(shares.charge(boss, line(1))).toBe(false)
  })

  test('callers of role none may have a quarter in flight, all together', () => {
    for (let uid = 1; uid <= 16; uid++) expect(shares.charge(come(none(uid))!, line(256))).toBe(true)
    expect(shares.charge(come(none(17))!, line(1))).toBe(false)
    expect(shares.charge(come(client(1))!, line(1))).toBe(true)
  })

  test('long lines are bound by their bytes, short ones are not', () => {
    const one = come(client(1))!
    const quarter = 2 * 1024 * 1024
    expect(shares.charge(one, line(1, quarter))).toBe(true)
    expect(shares.charge(one, line(1, 512))).toBe(true)
    expect(shares.charge(one, line(1, 513))).toBe(false)
  })

  test('those of a connection that is gone count until they are answered', () => {
    const one = come(client(1))!
    shares.charge(one, line(100))
    shares.leave(one)
    expect(shares.inFlight).toBe(100)
    const next = come(client(1))!
    expect(shares.charge(next, line(budget / 4))).toBe(false)
    shares.discharge(one, line(100))
    expect(shares.inFlight).toBe(budget / 4)
    shares.discharge(next, line(budget / 4))
    expect(shares.charge(next, line(budget / 4))).toBe(true)
  })
})

describe('who becomes something else while connected', () => {
  const become = (someone: Someone, role: Role, clientId: number | null) => {
    Object.assign(someone.session, { role, clientId })
    return shares.recount(someone)
  }

  test('is counted as that from then on, with what it has in flight', () => {
    const one = come(none(5))!
    shares.charge(one, line(256))
    expect(shares.recount(one)).toBe('unchanged')
    expect(become(one, 'client', 1)).toBe('moved')
    expect(comeMany(none(5), 64).every((other) => !other.isCut)).toBe(true)
    expect(shares.charge(one, line(16_384 / 4 - 256))).toBe(true)
    expect(shares.charge(one, line(1))).toBe(false)
    shares.discharge(one, line(16_384 / 4 + 1))
    expect(shares.inFlight).toBe(0)
    expect(one.isCut).toBe(false)
  })

  test('when a client is removed its connections share the 64 of callers of role none', () => {
    const bots = comeMany(client(1, 9), 200)
    for (const bot of bots) if (!bot.isCut) become(bot, 'none', null)
    expect(shares.members.size).toBe(64)
    expect(cut(bots)).toHaveLength(136)
  })

  test('where there is no room for it, it has to go', () => {
    const bots = comeMany(client(1), 250)
    for (const bot of bots) bot.busy = true
    const one = come(none(5))!
    expect(become(one, 'client', 1)).toBe('no room')
  })

  test('leaves nothing behind', () => {
    for (let n = 0; n < 20_000; n++) {
      const one = come(n % 2 === 0 ? none(n) : client(n))!
      shares.charge(one, line(1))
      become(one, 'client', n + 1)
      shares.leave(one)
      shares.discharge(one, line(1))
    }
    expect(shares.members.size).toBe(0)
    expect(shares.inFlight).toBe(0)
    expect(shares.figures).toEqual({ uids: 0, clients: 0, admins: 0, seats: 0 })
  })
})

test('whose turn it is: a client, an admin by uid, and all callers of role none as one', () => {
  const holder = (who: Parameters<typeof come>[0]) => shares.holderOf(come(who)!)
  expect(holder(client(1, 5))).toBe(holder(client(1, 6)))
  expect(holder(client(1, 5))).not.toBe(holder(client(2, 5)))
  expect(holder(none(5))).toBe(holder(none(6)))
  expect(holder(admin(0))).toBe(holder(admin(0)))
  expect(holder(admin(0))).not.toBe(holder(admin(1000)))
  expect([holder(admin(0)), holder(none(1))].map((share) => share!.isAdmin)).toEqual([true, false])
})
