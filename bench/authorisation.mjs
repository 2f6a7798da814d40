import { authorize, authorizeAbout } from '../dist/access/caller.js'
import { ClientDirectory } from '../dist/access/directory.js'
import { identify } from '../dist/access/session.js'

const checks = 1_000_000
const overflow = { uid: 65_534, gid: 65_534 }
const params = { userId: 'user7' }

/** A client among a hundred, with twenty users and an expiry, which costs a look at the clock each time. */
function someone() {
  const directory = new ClientDirectory(overflow, Date.now)
  for (let clientId = 1; clientId <= 100; clientId++) {
    directory.put({
      clientId,
      name: `bot ${clientId}`,
      uid: 1000 + clientId,
      gid: null,
      tokenHash: null,
      grant: {
        users: new Set(Array.from({ length: 20 }, (_, index) => `user${index}`)),
        credentials: null,
        scopes: new Set(['credentials:read', 'spend']),
        expiresAtMs: Date.now() + 3_600_000,
      },
      createdAtMs: 0,
      updatedAtMs: 0,
      use: { atMs: null },
    })
  }
  const rules = { ownUid: 0, overflow, hasAdminSocket: false, directory, admitsRefusal: () => true }
  const peer = { uid: 1042, gid: 1042, pid: 1, comm: null, unit: null }
  return identify(peer, [], 'main', rules).identity
}

/** Microseconds of one look at what a retrieve asks for: its scope and its user. */
export function authorisationUs() {
  const caller = someone()
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < 5; round++) {
    const from = performance.now()
    for (let index = 0; index < checks; index++) {
      authorize(caller, 'credentials:read')
      authorizeAbout(caller, 'user', params)
    }
    best = Math.min(best, (1000 * (performance.now() - from)) / checks)
  }
  return best
}
