import { PurserError } from '../../errors.ts'
import type { Transaction } from '../../store/operations.ts'
import { perform } from '../../store/operations.ts'
import type { Act } from '../act.ts'
import type { PreparedSecrets } from './prepared-secrets.ts'

/** Conflict where the user has `most` unrevoked credentials. */
export function* refuseAboveMost(userId: string, most: number): Transaction<void> {
  if ((yield* perform('credentialUnrevokedCount', userId, most)) < most) return
  throw new PurserError(
    'Conflict',
    { resource: 'credential', field: null },
    {
      message: `the user has ${most} unrevoked credentials, the most allowed`,
      hint: 'revoke one, or raise credentials.max_per_user',
    },
  )
}

/** Conflict on the API key or the address of an unrevoked credential other than `except`, where that is not null. */
export function* refuseConflicts(
  act: Act,
  userId: string,
  secrets: PreparedSecrets,
  except: number | null,
): Transaction<void> {
  const sameKey = yield* perform('credentialWithFingerprint', userId, secrets.fingerprint)
  if (sameKey !== undefined && sameKey !== except) {
    throw new PurserError(
      'Conflict',
      { resource: 'apiKey', field: 'apiKey' },
      {
        message: 'the user has this API key in an unrevoked credential',
        hint: 'use that credential, or revoke it first',
      },
    )
  }
  if (secrets.address === null || act.caller.isAdmin) return
  if ((yield* perform('credentialWithAddress', secrets.address, except ?? 0)) !== undefined) {
    throw new PurserError(
      'Conflict',
      { resource: 'address', field: 'privateKey' },
      {
        message: 'an unrevoked credential already holds this private key',
        hint: 'an admin may store it twice',
      },
    )
  }
}
