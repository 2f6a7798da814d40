import { describe, expect, test } from 'vitest'
import { authorize, type Door, type MethodScope, roleOf } from '../../src/access/caller.ts'

describe('the role of a caller', () => {
  const overflow = 65_534
  test.each<[uid: number, door: Door, ownUid: number, hasAdminSocket: boolean, role: string]>([
    // Without an admin socket: root and the daemon's own uid.
    [0, 'main', 1000, false, 'admin'],
    [1000, 'main', 1000, false, 'admin'],
    [1001, 'main', 1000, false, 'none'],
    [0, 'main', 0, false, 'admin'],
    [1000, 'main', 0, false, 'none'],
    // With one: only on it.
    [0, 'main', 1000, true, 'none'],
    [1000, 'main', 1000, true, 'none'],
    [0, 'admin', 1000, true, 'admin'],
    [1000, 'admin', 1000, true, 'admin'],
    [1001, 'admin', 1000, true, 'none'],
    // An id that the namespace cannot see is nobody's, the daemon's own included.
    [overflow, 'main', overflow, false, 'none'],
    [overflow, 'admin', overflow, true, 'none'],
    [overflow, 'main', 1000, false, 'none'],
    [0, 'main', overflow, false, 'admin'],
  ])('uid %i at the %s door of uid %i, admin socket %s: %s', (uid, door, ownUid, hasAdminSocket, role) => {
    expect(roleOf({ uid }, door, { ownUid, hasAdminSocket })).toBe(role)
  })
})

describe('what a role may do', () => {
  const scopes: MethodScope[] = [
    'entry',
    'user',
    'credentials:read',
    'credentials:write',
    'spend',
    'sign',
    'settle',
    'audit:read',
    'freeze',
    'admin',
  ]

  test('an admin everything', () => {
    for (const scope of [...scopes, 'anyone'] as const) expect(() => authorize('admin', scope)).not.toThrow()
  })

  test.each(['client', 'none'] as const)('%s nothing that nobody granted, and is told the scope', (role) => {
    expect(() => authorize(role, 'anyone')).not.toThrow()
    for (const scope of scopes) {
      const named = scope === 'entry' || scope === 'user' ? null : scope
      expect(() => authorize(role, scope), scope).toThrow(
        expect.objectContaining({ type: 'Forbidden', data: { scope: named } }),
      )
    }
  })
})
