import type { z } from 'zod'
import type { MethodAbout, MethodScope } from '../access/caller.ts'
import type { Identity } from '../access/identity.ts'
import type { Act } from '../service/act.ts'
import type { AuditTrail } from '../service/audit-trail.ts'
import type { ClientService } from '../service/clients.ts'
import type { CredentialLifecycle } from '../service/credentials/lifecycle.ts'
import type { CredentialQueries } from '../service/credentials/queries.ts'
import type { CredentialRetrieval } from '../service/credentials/retrieval.ts'
import type { FreezeService } from '../service/freeze.ts'
import type { Metrics } from '../service/metrics.ts'
import type { Sealing } from '../service/sealing.ts'
import type { SealingJobs } from '../service/sealing-jobs.ts'
import type { SpendReports } from '../service/spending/reports.ts'
import type { Reserving } from '../service/spending/reserving.ts'
import type { Settling } from '../service/spending/settling.ts'
import type { SystemService } from '../service/system.ts'
import type { Unsealing } from '../service/unsealing.ts'
import type { UserService } from '../service/users.ts'
import type { Session } from './session.ts'

/** What handlers call. */
export type Services = {
  readonly sealing: Sealing
  readonly unsealing: Unsealing
  readonly retrieval: CredentialRetrieval
  readonly lifecycle: CredentialLifecycle
  readonly queries: CredentialQueries
  readonly users: UserService
  readonly audit: AuditTrail
  readonly system: SystemService
  readonly sealingJobs: SealingJobs
  readonly freeze: FreezeService
  readonly reserving: Reserving
  readonly settling: Settling
  readonly reports: SpendReports
  readonly metrics: Metrics
  readonly clients: ClientService
}

/** What a handler knows of its request besides its params. */
export type Context = {
  readonly services: Services
  readonly session: Session
  /** Whose request it is: the session's identity when it came. */
  readonly identity: Identity
  readonly act: Act
  /** The OpenRPC document. */
  readonly discover: () => unknown
}

/** One wire method: its name, who may call it, the schema its params must fit and what it does. Nothing has a default. */
export type Method<Params extends z.ZodType = z.ZodType> = {
  readonly name: string
  readonly summary: string
  readonly scope: MethodScope
  readonly about: MethodAbout
  /** Below `store.reserve_mb` of free disk only what takes access away, and reads that are not audited, still work. */
  readonly belowReserve: 'works' | 'refused'
  /** Whether it still works while purser has no master key. */
  readonly whileSealed: 'works' | 'refused'
  /** Whether an answer can be large: at most one of a connection is worked on at a time. */
  readonly large: boolean
  readonly params: Params
  readonly result: z.ZodType
  readonly handler: (context: Context, params: z.output<Params>) => unknown
}

/** What a method with such params can be about: whose data it touches is never left to what happens to be in them. */
type AboutOf<Params> = Params extends { userId: string }
  ? 'user' | 'new-credential'
  : Params extends { reservationId: string }
    ? 'reservation'
    : string extends keyof Params // no params at all
      ? AboutNoUser
      : 'userId' extends keyof Params
        ? 'granted'
        : AboutNoUser
type AboutNoUser = 'nothing' | 'granted' | 'everything'

/** Ties a handler's params, and what the method is about, to its schema. */
export function defineMethod<Params extends z.ZodType>(
  method: Method<Params> & { readonly about: AboutOf<z.output<Params>> },
): Method {
  return method as unknown as Method
}
