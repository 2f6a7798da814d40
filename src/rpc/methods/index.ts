import type { Method } from '../method.ts'
import { auditFailures } from './audit.failures.ts'
import { auditQuery } from './audit.query.ts'
import { auditVerify } from './audit.verify.ts'
import { backupCreate } from './backup.create.ts'
import { credentialsExpiring } from './credentials.expiring.ts'
import { credentialsGet } from './credentials.get.ts'
import { credentialsList } from './credentials.list.ts'
import { credentialsReplace } from './credentials.replace.ts'
import { credentialsRetrieve } from './credentials.retrieve.ts'
import { credentialsRevoke } from './credentials.revoke.ts'
import { credentialsRotate } from './credentials.rotate.ts'
import { credentialsStore } from './credentials.store.ts'
import { credentialsUpdate } from './credentials.update.ts'
import { rpcDiscover } from './rpc.discover.ts'
import { sessionHello } from './session.hello.ts'
import { systemHealth } from './system.health.ts'
import { systemPing } from './system.ping.ts'
import { systemStatus } from './system.status.ts'
import { usersGet } from './users.get.ts'
import { usersList } from './users.list.ts'
import { usersPut } from './users.put.ts'
import { usersResetDecryptions } from './users.resetDecryptions.ts'

/** Every method there is, in the order the OpenRPC document lists them. */
export const methods: readonly Method[] = [
  sessionHello,
  systemPing,
  systemHealth,
  systemStatus,
  rpcDiscover,
  usersPut,
  usersGet,
  usersList,
  usersResetDecryptions,
  credentialsStore,
  credentialsRetrieve,
  credentialsGet,
  credentialsList,
  credentialsExpiring,
  credentialsUpdate,
  credentialsRevoke,
  credentialsReplace,
  credentialsRotate,
  auditQuery,
  auditVerify,
  auditFailures,
  backupCreate,
]
