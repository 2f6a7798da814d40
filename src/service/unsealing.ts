import { setTimeout as delay } from 'node:timers/promises'
import type { AuditEntry } from '../audit/entry.ts'
import { collectGarbage } from '../collect-garbage.ts'
import { exitCodes, invalidParams, PurserError, StartError } from '../errors.ts'
import type { ConfiguredSource } from '../keysource/configured-source.ts'
import { parseMasterKey } from '../keysource/parse-key.ts'
import type { Logger } from '../log.ts'
import type { SecretBytes } from '../secret.ts'
import type { Transaction } from '../store/operations.ts'
import { perform } from '../store/operations.ts'
import type { KeyMaterial, Keyring } from '../vault/keyring.ts'
import { KeyMaterialDamagedError, keyIdOf, openKeyring } from '../vault/keyring.ts'
import type { Act, Commits, Subject } from './act.ts'
import { audited, submitAudited, successEntry } from './act.ts'
import type { KeyFrom, Sealing } from './sealing.ts'

/** How long the answer to a wrong key takes: one guess a second, whatever the number of connections. */
const wrongKeyMs = 1000

/**
 * Between two reads of a source that failed: doubling from the first to the most. A read with all its tries takes up to
 * 17 s more (keysource/remote/tries.ts), and the contract allows a minute in all.
 */
const retryMs = { first: 1000, most: 40_000 } as const

export type UnsealAnswer = { sealed: false; keyId: string; epoch: number; storeCreated: boolean }

export type UnsealingParts = {
  readonly sealing: Sealing
  readonly commits: Commits
  readonly source: ConfiguredSource
  readonly log: Logger
  /**
   * Makes the store under this key and takes it into use; answers the entry its log begins with, or null, with nothing
   * touched, where something of its name is there. Throws StartError 69 where it cannot be written.
   */
  readonly makeStore: (masterKey: Buffer) => Promise<AuditEntry | null>
}

const subject: Subject = { action: 'system_unsealed', userId: null, credentialId: null }

/** Brings the master key back: given by an operator, or read from the configured source. */
export class Unsealing {
  readonly #parts: UnsealingParts
  /** Keys are tried one after the other, and so is the source read by operators. */
  readonly #keys = new Lane()
  readonly #reads = new Lane()
  /** Ends the reads of a source that failed at the start, once there is a key. */
  readonly #waiting = new AbortController()
  readonly #failed = Promise.withResolvers<StartError>()

  constructor(parts: UnsealingParts) {
    this.#parts = parts
  }

  /** Resolves where the daemon must not go on: the source handed out a key that does not open the store, or no key. */
  get failed(): Promise<StartError> {
    return this.#failed.promise
  }

  /**
   * InvalidParams where the given text or the source has no key, NotFound and Conflict for the store, WrongMasterKey after
   * a second, Sealed where a seal overtook it.
   */
  async unseal(
    act: Act,
    { masterKey, create }: { masterKey?: SecretBytes | undefined; create: boolean },
  ): Promise<UnsealAnswer> {
    const { sealing, commits, source } = this.#parts
    const signal = sealing.cancelled
    const given = masterKey === undefined ? null : parseMasterKey(masterKey.bytes)
    if (masterKey !== undefined && given === null)
      throw invalidParams('masterKey', 'must be 32 bytes as base64, base64url or hex')
    if (given === null && source.unreadable !== null) throw noKey(source.unreadable)
    try {
      return await audited(commits, act, subject, async () => {
        this.#refuseStore(create)
        const key = given ?? (await this.#reads.run(() => this.#readSource(signal)))
        try {
          const keyFrom = given === null ? 'source' : 'operator'
          return await this.#keys.run(() => this.#tryKey(key, { keyFrom, act, signal, create }))
        } finally {
          key.fill(0)
        }
      })
    } finally {
      given?.fill(0)
    }
  }

  /**
   * Reads the source that failed again and again until there is a key, or a seal. What it gives then must open the store:
   * `failed` resolves where it does not, or is no key.
   */
  async retrySource(): Promise<void> {
    const { sealing, source, log } = this.#parts
    const signal = AbortSignal.any([sealing.cancelled, this.#waiting.signal])
    for (let pauseMs: number = retryMs.first; ; pauseMs = Math.min(2 * pauseMs, retryMs.most)) {
      try {
        await delay(pauseMs, undefined, { signal })
        const key = await source.readAgain(signal)
        await this.#keys.run(() => this.#openWaiting(key, signal)).finally(() => key.fill(0))
        return
      } catch (error) {
        if (signal.aborted) return
        if (!mayPass(error)) {
          this.#failed.resolve(asStartError(error))
          return
        }
        log.warn(
          { reason: (error as Error).message },
          'still sealed: no key from its source, which is tried again',
        )
      }
    }
  }

  #refuseStore(create: boolean): void {
    if (this.#parts.sealing.hasStore()) {
      if (create) throw storeExists()
    } else if (!create) {
      throw new PurserError(
        'NotFound',
        { resource: 'store' },
        { message: 'there is no store', hint: 'make one with `purser unseal --create`, or restore a backup' },
      )
    }
  }

  async #readSource(signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted()
    const { source, log } = this.#parts
    try {
      const key = await source.readAgain(signal)
      if (source.warning !== null) log.warn(source.warning)
      return key
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof StartError) throw noKey(`the key source failed: ${error.message}`)
      throw error
    }
  }

  async #tryKey(
    key: Buffer,
    { keyFrom, act, signal, create }: { keyFrom: KeyFrom; act: Act; signal: AbortSignal; create: boolean },
  ): Promise<UnsealAnswer> {
    const { sealing, commits } = this.#parts
    signal.throwIfAborted()
    // The one before it in the lane may have made it.
    this.#refuseStore(create)
    if (create) await this.#createStore(key)
    const keyring = openStored(key, await readStoredKeys(commits, act))
    if (keyring === null) {
      await delay(wrongKeyMs, undefined, { signal }).catch(() => signal.throwIfAborted())
      throw new PurserError('WrongMasterKey', { retryAfterMs: wrongKeyMs })
    }
    const { keyId, epoch, openedWith } = keyring
    const again = !sealing.sealed
    // Of the key that was given: during a rotation either of two opens the store.
    const entry = successEntry(act, subject, { keyFrom, keyId: keyIdOf(key), again })
    if (again) {
      keyring.close()
      collectGarbage()
      await submitAudited(commits, act, subject, function* (unit): Transaction<void> {
        signal.throwIfAborted()
        unit.audit(entry)
      })
    } else {
      await sealing.open(keyring, signal, act, subject, (unit) => unit.audit(entry))
      this.#waiting.abort()
    }
    sealing.resumed(keyFrom, openedWith)
    return { sealed: false, keyId, epoch, storeCreated: create }
  }

  async #createStore(key: Buffer): Promise<void> {
    const { sealing, makeStore } = this.#parts
    try {
      const first = await makeStore(key)
      if (first === null) throw storeExists()
      sealing.owe(first)
    } catch (error) {
      if (!(error instanceof StartError)) throw error
      throw new PurserError(
        'StorageUnavailable',
        {},
        { message: error.message, hint: error.hint, cause: error },
      )
    }
  }

  /** As a start would have gone on with the key, had it had it. */
  async #openWaiting(key: Buffer, signal: AbortSignal): Promise<void> {
    const { sealing, commits, source, log, makeStore } = this.#parts
    signal.throwIfAborted()
    if (!sealing.hasStore()) {
      const first = await makeStore(key)
      if (first === null)
        throw new StartError('storeUnusable', 'a store appeared meanwhile', 'start purserd again')
      sealing.owe(first)
    }
    const stored = await readStoredKeys(commits, null)
    const keyring = openStored(key, stored)
    if (keyring === null) throw new WrongKeyError(source.describe, stored.rows)
    const keyId = keyIdOf(key)
    const { openedWith } = keyring
    if (source.warning !== null) log.warn(source.warning)
    const entry: AuditEntry = {
      ...subject,
      outcome: 'ok',
      details: { keyFrom: 'source', keyId, again: false },
      peer: null,
      client: null,
    }
    await sealing.open(keyring, signal, null, subject, (unit) => unit.audit(entry))
    log.info({ keyId }, 'unsealed: the key source has handed out the key')
    sealing.resumed('source', openedWith)
  }
}

/** A source handed out a key that does not open the store. `from` names the source. */
export class WrongKeyError extends StartError {
  constructor(from: string | null, rows: KeyMaterial['rows']) {
    super(
      'masterKey',
      `the master key from ${from} does not open this store (it was made with key ${rows.map(({ keyId }) => keyId).join(' or ')})`,
      'configure the master key the store was made with; nothing was changed',
    )
  }
}

/** Runs one work after the other. */
class Lane {
  #last: Promise<unknown> = Promise.resolve()

  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined)
    return result
  }
}

async function readStoredKeys(commits: Commits, act: Act | null): Promise<KeyMaterial> {
  return await commits.submit(function* (): Transaction<KeyMaterial> {
    const store = yield* perform('storeGet')
    return { storeId: store?.storeId ?? Buffer.alloc(0), rows: yield* perform('masterKeys') }
  }, act)
}

const damaged = 'the key material of the store is damaged'

/** That no key opens the store, which waiting does not change. */
function isDamage(error: unknown): boolean {
  return error instanceof PurserError && error.cause instanceof KeyMaterialDamagedError
}

/** Null where the key is another. StorageUnavailable for a store that no key opens. */
function openStored(key: Buffer, stored: KeyMaterial): Keyring | null {
  try {
    return openKeyring(key, stored)
  } catch (error) {
    if (error instanceof PurserError && error.type === 'WrongMasterKey') return null
    if (!(error instanceof KeyMaterialDamagedError)) throw error
    throw new PurserError(
      'StorageUnavailable',
      {},
      { message: damaged, hint: 'restore a backup', cause: error },
    )
  }
}

function noKey(message: string): PurserError {
  return new PurserError(
    'InvalidParams',
    { issues: [{ path: 'masterKey', message: `must be given: ${message}` }] },
    { message, hint: 'give the key: `purser unseal` asks for it' },
  )
}

function storeExists(): PurserError {
  return new PurserError(
    'Conflict',
    { resource: 'store', field: null },
    {
      message: 'there is a file of the name of the store',
      hint: 'unseal it without `create`; nothing was touched',
    },
  )
}

/** A source, or a disk, that may come back. A key that does not open the store is another matter than one that is not there. */
function mayPass(error: unknown): boolean {
  if (error instanceof PurserError) return error.type === 'StorageUnavailable' && !isDamage(error)
  return (
    error instanceof StartError && error.exitCode === exitCodes.masterKey && !(error instanceof WrongKeyError)
  )
}

function asStartError(error: unknown): StartError {
  if (error instanceof StartError) return error
  if (isDamage(error)) return new StartError('storeUnusable', damaged, 'restore a backup', error)
  return new StartError(
    'unforeseen',
    `unforeseen, while the key was waited for: ${String(error)}`,
    'report this with the log',
    error,
  )
}
