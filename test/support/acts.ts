import type { Act } from '../../src/service/act.ts'
import type { Caller } from '../../src/service/grant.ts'
import { adminCaller } from './callers.ts'

/** An act that a test makes without a connection, by default of an admin; its check lets everything pass. */
export function actOf(caller: Caller = adminCaller): Act {
  return {
    order: 0,
    peer: { uid: 0, gid: 0, pid: 1, comm: null, unit: null },
    client: null,
    clientId: caller.clientId,
    caller,
    guard: null,
    bindings: [],
    cleanups: [],
    check: () => undefined,
  }
}
