import type { Method } from '../method.ts'
import { auditFailures } from './audit.failures.ts'
import { auditQuery } from './audit.query.ts'
import { auditVerify } from './audit.verify.ts'
import { backupCreate } from './backup.create.ts'
import { clientsAdd } from './clients.add.ts'
import { clientsList } from './clients.list.ts'
import { clientsRemove } from './clients.remove.ts'
import { clientsUpdate } from './clients.update.ts'
import { credentialsExpiring } from './credentials.expiring.ts'
import { credentialsGet } from './credentials.get.ts'
import { credentialsList } from './credentials.list.ts'
import { credentialsReplace } from './credentials.replace.ts'
import { credentialsRetrieve } from './credentials.retrieve.ts'
import { credentialsRevoke } from './credentials.revoke.ts'
import { credentialsRotate } from './credentials.rotate.ts'
import { credentialsStore } from './credentials.store.ts'
import { credentialsUpdate } from './credentials.update.ts'
import { masterReseal } from './master.reseal.ts'
import { masterRotate } from './master.rotate.ts'
import { masterStatus } from './master.status.ts'
import { positionsClose } from './positions.close.ts'
import { positionsList } from './positions.list.ts'
import { reservationsList } from './reservations.list.ts'
import { rpcDiscover } from './rpc.discover.ts'
import { sessionHello } from './session.hello.ts'
import { spendCapture } from './spend.capture.ts'
import { spendCheck } from './spend.check.ts'
import { spendRecord } from './spend.record.ts'
import { spendReserve } from './spend.reserve.ts'
import { spendStatus } from './spend.status.ts'
import { spendUsage } from './spend.usage.ts'
import { spendVoid } from './spend.void.ts'
import { systemFreeze } from './system.freeze.ts'
import { systemHealth } from './system.health.ts'
import { systemMetrics } from './system.metrics.ts'
import { systemPing } from './system.ping.ts'
import { systemSeal } from './system.seal.ts'
import { systemStatus } from './system.status.ts'
import { systemUnfreeze } from './system.unfreeze.ts'
import { systemUnseal } from './system.unseal.ts'
import { usersFreeze } from './users.freeze.ts'
import { usersGet } from './users.get.ts'
import { usersList } from './users.list.ts'
import { usersPut } from './users.put.ts'
import { usersResetDecryptions } from './users.resetDecryptions.ts'
import { usersUnfreeze } from './users.unfreeze.ts'

/** Every method there is, in the order the OpenRPC document lists them. */
export const methods: readonly Method[] = [
  sessionHello,
  systemPing,
  systemHealth,
  systemStatus,
  systemMetrics,
  systemSeal,
  systemUnseal,
  systemFreeze,
  systemUnfreeze,
  rpcDiscover,
  usersPut,
  usersGet,
  usersList,
  usersFreeze,
  usersUnfreeze,
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
  spendCheck,
  spendReserve,
  spendCapture,
  spendVoid,
  spendRecord,
  spendStatus,
  spendUsage,
  reservationsList,
  positionsList,
  positionsClose,
  clientsAdd,
  clientsUpdate,
  clientsList,
  clientsRemove,
  auditQuery,
  auditVerify,
  auditFailures,
  masterRotate,
  masterReseal,
  masterStatus,
  backupCreate,
]
