import { describe, expect, test } from 'vitest'
import { authorize, authorizeAbout, type MethodScope, type RoledCaller } from '../../src/access/caller.ts'
import { type Door, isAdminUid } from '../../src/access/identity.ts'
import { type Grant, type Scope, scopes } from '../../src/service/grant.ts'
import { adminCaller, callerOf } from '../support/callers.ts'

describe('an admin by its uid', () => {
  const overflow = 65_534
  test.each<[uid: number, door: Door, ownUid: number, hasAdminSocket: boolean, isAdmin: boolean]>([
    // Without an admin socket: root and the daemon's own uid.
    [0, 'main', 1000, false, true],
    [1000, 'main', 1000, false, true],
    [1001, 'main', 1000, false, false],
    [0, 'main', 0, false, true],
    [1000, 'main', 0, false, false],
    // With one: only on it.
    [0, 'main', 1000, true, false],
    [1000, 'main', 1000, true, false],
    [0, 'admin', 1000, true, true],
    [1000, 'admin', 1000, true, true],
    [1001, 'admin', 1000, true, false],
    // An id that the namespace cannot see is nobody's, the daemon's own included.
    [overflow, 'main', overflow, false, false],
    [overflow, 'admin', overflow, true, false],
    [overflow, 'main', 1000, false, false],
    [0, 'main', overflow, false, true],
  ])('uid %i at the %s door of uid %i, admin socket %s: %s', (uid, door, ownUid, hasAdminSocket, isAdmin) => {
    const rules = { ownUid, hasAdminSocket, overflow: { uid: overflow, gid: overflow } }
    expect(isAdminUid(uid, door, rules)).toBe(isAdmin)
  })
})

const admin: RoledCaller = { ...adminCaller, role: 'admin' }
const nobody: RoledCaller = {
  ...callerOf({ users: new Set(), credentials: new Set(), scopes: new Set(), expiresAtMs: null }),
  role: 'none',
}

function clientOf(grant: Partial<Grant>): RoledCaller {
  const caller = callerOf({
    users: new Set(['alice']),
    credentials: null,
    scopes: new Set<Scope>(['spend']),
    expiresAtMs: null,
    ...grant,
  })
  return { ...caller, role: 'client' }
}

describe('what a scope allows', () => {
  const asked: MethodScope[] = ['entry', 'user', ...scopes, ['spend', 'settle']]

  test('an admin everything', () => {
    for (const scope of [...asked, 'anyone'] as const) expect(() => authorize(admin, scope)).not.toThrow()
  })

  test('nobody nothing, and is told the scope', () => {
    expect(() => authorize(nobody, 'anyone')).not.toThrow()
    for (const scope of asked) {
      const named = scope === 'entry' || scope === 'user' ? null : typeof scope === 'string' ? scope : 'spend'
      expect(() => authorize(nobody, scope), String(scope)).toThrow(
        expect.objectContaining({ type: 'Forbidden', data: { scope: named } }),
      )
    }
  })

  test.each(scopes.filter((scope) => scope !== 'admin'))(
    '%s what asks for it and nothing else',
    (granted) => {
      const caller = clientOf({ scopes: new Set([granted]) })
      for (const scope of asked) {
        const allowed =
          scope === 'entry' ||
          scope === 'user' ||
          scope === granted ||
          (typeof scope !== 'string' && scope.includes(granted))
        const attempt = () => authorize(caller, scope)
        if (allowed) expect(attempt, String(scope)).not.toThrow()
        else expect(attempt, String(scope)).toThrow('not allowed')
      }
    },
  )
})

describe('what a request may be about', () => {
  const refused = expect.objectContaining({ type: 'Forbidden', data: { scope: null } })

  test('a user that is granted, and every one under *', () => {
    for (const about of ['user', 'new-credential', 'granted'] as const) {
      expect(() => authorizeAbout(clientOf({}), about, { userId: 'alice' })).not.toThrow()
      expect(() => authorizeAbout(clientOf({}), about, { userId: 'bob' })).toThrow(refused)
      expect(() => authorizeAbout(clientOf({ users: '*' }), about, { userId: 'bob' })).not.toThrow()
    }
    expect(() => authorizeAbout(clientOf({}), 'granted', {})).not.toThrow()
  })

  test('everything only under *', () => {
    expect(() => authorizeAbout(clientOf({}), 'everything', {})).toThrow(refused)
    expect(() => authorizeAbout(clientOf({ users: '*' }), 'everything', {})).not.toThrow()
  })

  test('with listed credentials no new one, and not which is primary', () => {
    const listed = clientOf({ credentials: new Set([1]) })
    expect(() => authorizeAbout(listed, 'new-credential', { userId: 'alice' })).toThrow(refused)
    expect(() => authorizeAbout(listed, 'user', { userId: 'alice', isPrimary: true })).toThrow(refused)
    expect(() => authorizeAbout(listed, 'user', { userId: 'alice' })).not.toThrow()
    expect(() => authorizeAbout(clientOf({}), 'user', { userId: 'alice', isPrimary: true })).not.toThrow()
  })
})
