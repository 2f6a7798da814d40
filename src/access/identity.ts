import { readFileSync } from 'node:fs'
import type { ClientEntry, Scope } from '../service/grant.ts'
import type { Role, RoledCaller } from './caller.ts'
import type { ClientDirectory, KernelWord, OverflowIds } from './directory.ts'
import type { Refused } from './refusals.ts'

/** Which socket a connection came in by. */
export type Door = 'main' | 'admin'

export type IdentityRules = {
  readonly ownUid: number
  readonly overflow: OverflowIds
  readonly hasAdminSocket: boolean
  readonly directory: ClientDirectory
  /** Whether a refusal is to be written by itself; else it is counted. */
  readonly admitsRefusal: (refused: Refused) => boolean
}

const overflowDefault = 65_534

/** The ids that this user namespace shows for those it cannot see. */
export function readOverflowIds(): OverflowIds {
  return { uid: readId('/proc/sys/kernel/overflowuid'), gid: readId('/proc/sys/kernel/overflowgid') }
}

function readId(path: string): number {
  try {
    const id = Number(readFileSync(path, 'utf8').trim())
    return Number.isSafeInteger(id) ? id : overflowDefault
  } catch {
    return overflowDefault
  }
}

/** Whether root or the daemon's own uid is an admin at this door: where an admin socket is set, only on it. */
export function isAdminUid(
  uid: number,
  door: Door,
  rules: Omit<IdentityRules, 'directory' | 'admitsRefusal'>,
) {
  if (rules.hasAdminSocket && door !== 'admin') return false
  return uid === 0 || (uid === rules.ownUid && uid !== rules.overflow.uid)
}

/**
 * Who a caller is: by the kernel's word, or by a token. What it may do is looked up at each use: the entry found before
 * is taken while the directory has not changed and the entry has not expired.
 */
export class Identity implements RoledCaller {
  readonly #word: KernelWord
  readonly #rules: IdentityRules
  readonly #directory: ClientDirectory
  readonly #isAdminUid: boolean
  /** The entry of the token that was presented; null: the kernel's word counts. */
  readonly #tokenClientId: number | null
  #version = -1
  #entry: ClientEntry | null = null

  constructor(parts: {
    word: KernelWord
    rules: IdentityRules
    isAdminUid: boolean
    tokenClientId: number | null
  }) {
    this.#word = parts.word
    this.#rules = parts.rules
    this.#directory = parts.rules.directory
    this.#isAdminUid = parts.isAdminUid
    this.#tokenClientId = parts.tokenClientId
  }

  /** The entry that counts now, null where none does. Admins by their uid need none. */
  get entry(): ClientEntry | null {
    const known = this.#entry
    if (this.#version === this.#directory.version && (known === null || !this.#directory.isOver(known)))
      return known
    this.#version = this.#directory.version
    this.#entry = this.#look()
    return this.#entry
  }

  #look(): ClientEntry | null {
    if (this.#tokenClientId !== null) return this.#directory.ofId(this.#tokenClientId, this.#word)
    return this.#isAdminUid ? null : this.#directory.ofKernel(this.#word)
  }

  get role(): Role {
    if (this.#isAdminUid) return 'admin'
    const { entry } = this
    if (entry === null) return 'none'
    return entry.grant.scopes.has('admin') ? 'admin' : 'client'
  }

  get isAdmin(): boolean {
    return this.role === 'admin'
  }

  get clientId(): number | null {
    return this.entry?.clientId ?? null
  }

  get tokenClientId(): number | null {
    return this.#tokenClientId
  }

  get users(): '*' | ReadonlySet<string> {
    return this.#isAdminUid ? '*' : (this.entry?.grant.users ?? nobody)
  }

  get credentials(): ReadonlySet<number> | null {
    const { entry } = this
    if (entry !== null) return entry.grant.credentials
    return this.#isAdminUid ? null : none
  }

  get expiresAtMs(): number | null {
    return this.entry?.grant.expiresAtMs ?? null
  }

  has(scope: Scope): boolean {
    if (this.#isAdminUid) return true
    const granted = this.entry?.grant.scopes
    return granted !== undefined && (granted.has(scope) || granted.has('admin'))
  }

  admitsRefusal(): boolean {
    const { role, clientId } = this
    return this.#rules.admitsRefusal({ role, uid: this.#word.uid, clientId })
  }
}

const nobody: ReadonlySet<string> = new Set()
const none: ReadonlySet<number> = new Set()
