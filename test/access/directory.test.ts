import { hash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { ClientDirectory } from '../../src/access/directory.ts'
import type { Door, IdentityRules } from '../../src/access/identity.ts'
import { identify, type Session } from '../../src/access/session.ts'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import type { ClientEntry, Grant, Scope } from '../../src/service/grant.ts'

const overflow = { uid: 65_534, gid: 65_533 }

/** A directory whose clock a test owns, and callers at its doors. */
class House {
  nowMs = 1_000_000
  readonly directory = new ClientDirectory(overflow, () => this.nowMs)
  readonly rules: IdentityRules
  #nextId = 1

  constructor(hasAdminSocket = false) {
    this.rules = {
      ownUid: 1000,
      overflow,
      hasAdminSocket,
      directory: this.directory,
      admitsRefusal: () => true,
    }
  }

  add(what: { uid?: number; gid?: number; token?: string } & Partial<Grant>): ClientEntry {
    const clientId = this.#nextId++
    const { uid = null, gid = null, token } = what
    const entry: ClientEntry = {
      clientId,
      name: `client-${clientId}`,
      uid,
      gid,
      tokenHash: token === undefined ? null : hash('sha256', Buffer.from(token), 'buffer'),
      grant: {
        users: what.users ?? '*',
        credentials: what.credentials ?? null,
        scopes: what.scopes ?? new Set<Scope>(['spend']),
        expiresAtMs: what.expiresAtMs ?? null,
      },
      createdAtMs: 0,
      updatedAtMs: 0,
      use: { atMs: null },
    }
    this.directory.put(entry)
    return entry
  }

  at(door: Door, uid: number, gid: number, ...groups: number[]): Session | 'refused' {
    const peer = { uid, gid, pid: 1, comm: null, unit: null }
    return identify(peer, groups, door, this.rules)
  }

  caller(uid: number, gid = 500, ...groups: number[]): Session {
    return this.at('main', uid, gid, ...groups) as Session
  }
}

const bytes = (token: string) => new SecretBytes(offHeapCopy(Buffer.from(token)))
const admin: ReadonlySet<Scope> = new Set(['admin'])

describe('the kernel’s word', () => {
  test('a uid counts before a gid, and of gids the one added first', () => {
    const house = new House()
    const byLaterGroup = house.add({ gid: 502 })
    const byPrimary = house.add({ gid: 500 })
    const byUid = house.add({ uid: 2000 })
    expect(house.caller(2000, 500, 502).clientId).toBe(byUid.clientId)
    expect(house.caller(2001, 500, 501, 502).clientId).toBe(byLaterGroup.clientId)
    expect(house.caller(2001, 500, 501).clientId).toBe(byPrimary.clientId)
    expect(house.caller(2001, 501).clientId).toBeNull()
    expect(house.caller(2001, 501).role).toBe('none')
  })

  test('all that an entry names must match', () => {
    const house = new House()
    const both = house.add({ uid: 2000, gid: 501 })
    const group = house.add({ gid: 500 })
    expect(house.caller(2000, 501).clientId).toBe(both.clientId)
    expect(house.caller(2000, 500, 501).clientId).toBe(both.clientId)
    // Without its group it is no entry of that uid, and the group's counts.
    expect(house.caller(2000, 500).clientId).toBe(group.clientId)
    // Nor is it one of that group.
    expect(house.caller(2001, 501).clientId).toBeNull()
    house.add({ uid: 2002, token: 'prs_a' })
    expect(house.caller(2002, 1).clientId).toBeNull()
  })

  test('what the namespace cannot see is nobody', () => {
    const house = new House()
    house.add({ uid: overflow.uid })
    house.add({ gid: overflow.gid })
    expect(house.caller(overflow.uid, overflow.gid, overflow.gid).role).toBe('none')
    const token = house.add({ token: 'prs_b' })
    const session = house.caller(overflow.uid, overflow.gid)
    session.present(bytes('prs_b'))
    expect(session.clientId).toBe(token.clientId)
  })

  test('expired entries count as none, at their time, and others come in their place', () => {
    const house = new House()
    const group = house.add({ gid: 500 })
    const uid = house.add({ uid: 2000, expiresAtMs: house.nowMs + 10 })
    const session = house.caller(2000)
    expect(session.clientId).toBe(uid.clientId)
    house.nowMs += 9
    expect(session.clientId).toBe(uid.clientId)
    house.nowMs += 1
    expect(session.clientId).toBe(group.clientId)
    expect(house.directory.current()).toEqual([group])
  })

  test('an entry that comes, changes or goes counts at once, on connections that are open too', () => {
    const house = new House()
    const session = house.caller(2000)
    expect(session.role).toBe('none')
    const entry = house.add({ uid: 2000 })
    expect(session.role).toBe('client')
    expect(session.identity.has('sign')).toBe(false)
    house.directory.put({ ...entry, grant: { ...entry.grant, scopes: new Set(['sign']) } })
    expect(session.identity.has('sign')).toBe(true)
    expect(session.identity.has('spend')).toBe(false)
    house.directory.remove(entry.clientId)
    expect(session.role).toBe('none')
    expect(session.identity.credentials).toEqual(new Set())
    expect(session.identity.users).toEqual(new Set())
  })
})

describe('an admin entry', () => {
  test('without an admin socket it counts where everybody comes in', () => {
    const house = new House()
    house.add({ uid: 2000, scopes: admin })
    const session = house.caller(2000)
    expect([session.role, session.identity.isAdmin, session.identity.has('sign')]).toEqual([
      'admin',
      true,
      true,
    ])
  })

  test('with one only there, and another entry counts elsewhere', () => {
    const house = new House(true)
    house.add({ uid: 2000, scopes: admin })
    const group = house.add({ gid: 500 })
    expect((house.at('admin', 2000, 500) as Session).role).toBe('admin')
    expect(house.caller(2000).clientId).toBe(group.clientId)
    expect(house.at('admin', 2001, 500)).toBe('refused')
    // Its token is no token elsewhere; and who comes to the admin door without another word has none yet.
    house.add({ token: 'prs_c', scopes: admin })
    expect(() => house.caller(2001).present(bytes('prs_c'))).toThrow('the token is not valid')
    expect(house.at('admin', 2001, 9)).toBe('refused')
  })

  test('root and the daemon’s own uid are callers like any other on the bots’ socket', () => {
    const house = new House(true)
    for (const uid of [0, 1000]) {
      expect(house.caller(uid).role).toBe('none')
      expect((house.at('admin', uid, uid) as Session).role).toBe('admin')
    }
    const entry = house.add({ uid: 0 })
    expect(house.caller(0).clientId).toBe(entry.clientId)
  })
})

describe('a token', () => {
  test('takes the place of whatever the uid would give, an admin’s too', () => {
    const house = new House()
    house.add({ uid: 2000 })
    const token = house.add({ token: 'prs_d', scopes: new Set<Scope>(['sign']) })
    for (const uid of [0, 1000, 2000, 2001]) {
      const session = house.caller(uid)
      session.present(bytes('prs_d'))
      expect([session.role, session.clientId]).toEqual(['client', token.clientId])
      expect(session.identity.has('spend')).toBe(false)
    }
  })

  test('once it is removed or expired the connection has no role, whoever it is', () => {
    const house = new House()
    house.add({ uid: 2000 })
    const removed = house.add({ token: 'prs_e' })
    house.add({ token: 'prs_f', expiresAtMs: house.nowMs + 5 })
    const sessions = [0, 2000].flatMap((uid) =>
      ['prs_e', 'prs_f'].map((token) => {
        const session = house.caller(uid)
        session.present(bytes(token))
        return session
      }),
    )
    house.directory.remove(removed.clientId)
    house.nowMs += 5
    for (const session of sessions) {
      expect([session.role, session.clientId]).toEqual(['none', null])
      expect(() => session.present(bytes('prs_e'))).toThrow('the token is not valid')
    }
  })

  test('the same again is well, a second one and a wrong one close', () => {
    const house = new House()
    for (const token of ['prs_g', 'prs_h']) house.add({ token })
    const session = house.caller(2000)
    session.present(bytes('prs_g'))
    session.present(bytes('prs_g'))
    expect(session.closing).toBe(false)
    expect(() => session.present(bytes('prs_h'))).toThrow('the token is not valid')
    expect(session.closing).toBe(true)
    for (const wrong of ['prs_', 'prs_g ', 'PRS_G', '']) {
      const other = house.caller(2000)
      expect(() => other.present(bytes(wrong)), wrong).toThrow('the token is not valid')
      expect(other.closing).toBe(true)
    }
  })

  test('one bound to a uid or gid is wrong from another', () => {
    const house = new House()
    house.add({ uid: 2000, token: 'prs_i' })
    house.add({ gid: 501, token: 'prs_j' })
    expect(() => house.caller(2001).present(bytes('prs_i'))).toThrow('the token is not valid')
    expect(() => house.caller(2000, 500, 502).present(bytes('prs_j'))).toThrow('the token is not valid')
    house.caller(2000).present(bytes('prs_i'))
    house.caller(2001, 500, 501).present(bytes('prs_j'))
  })

  test('a request keeps who asked it, whatever hello comes behind', () => {
    const house = new House()
    const uid = house.add({ uid: 2000 })
    house.add({ token: 'prs_k' })
    const session = house.caller(2000)
    const before = session.identity
    session.present(bytes('prs_k'))
    expect(before.clientId).toBe(uid.clientId)
    expect(session.identity.clientId).not.toBe(uid.clientId)
    // And is live: what that entry loses, it loses.
    house.directory.remove(uid.clientId)
    expect(before.role).toBe('none')
  })
})
