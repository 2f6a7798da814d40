import { readdirSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { StartError } from '../../src/errors.ts'
import { createLogger } from '../../src/log.ts'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { CredentialLifecycle } from '../../src/service/credentials/lifecycle.ts'
import type { KeyFrom } from '../../src/service/sealing.ts'
import { type MasterStatus, SealingJobs } from '../../src/service/sealing-jobs.ts'
import { statementsOf } from '../../src/store/sqlite/statements.ts'
import { truncateWal } from '../../src/store/sqlite/truncate-wal.ts'
import { DerivationQueue } from '../../src/vault/derivation-queue.ts'
import { openKeyring } from '../../src/vault/keyring.ts'
import { OpenedCache } from '../../src/vault/opened-cache.ts'
import { Vault } from '../../src/vault/vault.ts'
import { until } from '../flows/story.ts'
import { Scratch, TestStore } from '../store/support.ts'
import { actOf } from '../support/acts.ts'

// What comes in between: derivations that stand still while a rotation runs to its end, seals in its midst, and keys
// that an operator gives.

const firstKey = Buffer.alloc(32, 7)
const secondKey = Buffer.alloc(32, 8)

const secret = (text: string) => new SecretBytes(offHeapCopy(Buffer.from(text)))

/** Derivations of the user `slow`, or all in the background, stand still until the test lets them go. */
class GatedQueue extends DerivationQueue {
  #open: () => void = () => undefined
  #gate: Promise<void> | null = null
  #which = 'slow'
  held = 0

  constructor() {
    super(16)
  }

  close(which: 'slow' | 'background' = 'slow'): void {
    this.#which = which
    this.#gate = new Promise((resolve) => {
      this.#open = resolve
    })
  }

  open(): void {
    this.#gate = null
    this.#open()
  }

  override run<Result>(userId: string, derive: () => Promise<Result>): Promise<Result> {
    return super.run(userId, () => this.#pass(userId, derive))
  }

  override runInBackground<Result>(derive: () => Promise<Result>): Promise<Result> {
    return super.runInBackground(() => this.#pass('background', derive))
  }

  async #pass<Result>(who: string, derive: () => Promise<Result>): Promise<Result> {
    if (who === this.#which && this.#gate !== null) {
      this.held += 1
      await this.#gate
    }
    return derive()
  }
}

class Fixture implements Disposable {
  readonly store = new TestStore()
  readonly queue = new GatedQueue()
  vault: Vault
  /** What the configured source hands out; null where it fails. */
  sourceKey: Buffer | null = firstKey
  /** The keys it has handed out, which whoever asked wipes. */
  readonly handedOut: Buffer[] = []
  /** Its key file, where it is one. */
  file: string | undefined = undefined
  /** Runs before the source answers, and before the log is truncated. */
  beforeRead: () => void = () => undefined
  beforeTruncate: () => void = () => undefined
  readonly jobs: SealingJobs
  readonly lifecycle: CredentialLifecycle

  constructor(startsSealed = false) {
    this.vault = this.open(firstKey)
    const { commits, database } = this.store
    const shared = { commits, vault: () => this.vault, now: Date.now }
    const fixture = this
    this.jobs = new SealingJobs({
      ...shared,
      startsSealed,
      source: {
        describe: 'a source',
        get file() {
          return fixture.file
        },
        readAgain: async () => {
          if (this.sourceKey === null) throw new StartError('masterKey', 'the source fails', 'repair it')
          const key = offHeapCopy(this.sourceKey)
          this.handedOut.push(key)
          this.beforeRead()
          return key
        },
      },
      truncateLog: async () => {
        this.beforeTruncate()
        await truncateWal(database)
      },
      diskLow: () => false,
      log: createLogger('silent'),
    })
    this.lifecycle = new CredentialLifecycle({
      ...shared,
      cache: new OpenedCache({ maxEntries: 10, ttlMs: 1000 }),
      settings: { privateKeyPolicy: 'exportable', maxPerUser: 100 },
    })
  }

  open(masterKey: Buffer): Vault {
    const statements = statementsOf(this.store.database)
    const keyring = openKeyring(masterKey, {
      storeId: statements.storeGet()!.storeId,
      rows: statements.masterKeys(),
    })
    return new Vault({ keyring, queue: this.queue, kdf: { memoryKib: 8, iterations: 1 } })
  }

  async save(userId: string, apiKey: string): Promise<number> {
    const params = { userId, apiKey, apiSecret: secret('AAAA') }
    return (await this.lifecycle.store(actOf(), params)).credentialId
  }

  rotate(): Promise<{ jobId: string }> {
    return this.jobs.rotate(actOf(), secret(secondKey.toString('hex')))
  }

  status(): Promise<MasterStatus> {
    return this.jobs.status(actOf())
  }

  async reaches(state: string): Promise<void> {
    await until(async () => (await this.status()).job?.state === state)
  }

  async retires(): Promise<void> {
    await until(async () => (await this.status()).oldKeyRetired)
  }

  /** As a seal does, and then an unseal. */
  async seal(): Promise<void> {
    const paused = this.jobs.pause()
    const closed = this.vault.close()
    this.queue.open()
    await Promise.all([paused, closed])
  }

  unseal(masterKey: Buffer, keyFrom: KeyFrom): void {
    this.vault = this.open(masterKey)
    this.jobs.resume(this.vault, keyFrom, this.vault.keyring.openedWith)
  }

  async apiKeyOf(credentialId: number): Promise<string> {
    const sealed = statementsOf(this.store.database).credentialSealed(credentialId)!
    const opened = await this.vault.open(sealed.envelope, sealed)
    const text = opened.apiKey.toString()
    opened.release()
    return text
  }

  [Symbol.dispose](): void {
    this.store[Symbol.dispose]()
  }
}

test('a store whose sealing outlasts the whole rotation is sealed anew before it is kept', async () => {
  using fixture = new Fixture()
  fixture.jobs.resume(fixture.vault, 'source', 1)
  await fixture.save('alice', 'before')
  fixture.queue.close()
  const saving = fixture.save('slow', 'during')
  await until(() => fixture.queue.held === 1)
  fixture.sourceKey = secondKey
  await fixture.rotate()
  await fixture.retires()
  fixture.queue.open()
  const id = await saving
  expect(statementsOf(fixture.store.database).credentialSealed(id)!.epoch).toBe(2)
  expect(await fixture.apiKeyOf(id)).toBe('during')
  await fixture.seal()
  fixture.unseal(secondKey, 'source')
  expect(await fixture.apiKeyOf(id)).toBe('during')
})

test('an opening that outlasts the whole rotation still has the key it needs', async () => {
  using fixture = new Fixture()
  fixture.jobs.resume(fixture.vault, 'source', 1)
  const id = await fixture.save('slow', 'api key')
  fixture.queue.close()
  const opening = fixture.apiKeyOf(id)
  await until(() => fixture.queue.held === 1)
  fixture.sourceKey = secondKey
  await fixture.rotate()
  await fixture.retires()
  fixture.queue.open()
  expect(await opening).toBe('api key')
  await until(() => fixture.vault.keyring.masterKey(1) === null)
})

test.each([
  ['old', firstKey],
  ['new', secondKey],
])('a job that is sealed in its midst goes on at an unseal with the %s key', async (_which, key) => {
  using fixture = new Fixture()
  fixture.jobs.resume(fixture.vault, 'source', 1)
  const ids: number[] = []
  for (let index = 0; index < 30; index++) ids.push(await fixture.save(`user-${index % 3}`, `key-${index}`))
  fixture.queue.close('background')
  await fixture.rotate()
  await until(() => fixture.queue.held > 0)
  expect((await fixture.status()).job).toMatchObject({ state: 'running', total: 30 })
  await fixture.seal()
  expect((await fixture.status()).job).toMatchObject({ kind: 'rotate', state: 'paused', total: 30 })
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect((await fixture.status()).job!.state).toBe('paused')
  fixture.unseal(key, 'operator')
  await fixture.reaches('done')
  expect(await fixture.status()).toMatchObject({ epoch: 2, oldKeyRetired: false, job: { done: 30 } })
  for (const [index, id] of ids.entries()) expect(await fixture.apiKeyOf(id)).toBe(`key-${index}`)
})

test("an operator's key counts for the retirement of the old one under --sealed alone", async () => {
  for (const startsSealed of [false, true]) {
    using fixture = new Fixture(startsSealed)
    fixture.jobs.resume(fixture.vault, 'operator', 1)
    await fixture.save('alice', 'key')
    fixture.sourceKey = null
    await fixture.rotate()
    await fixture.reaches('done')
    fixture.jobs.resume(fixture.vault, 'operator', 1)
    await fixture.seal()
    fixture.unseal(secondKey, 'operator')
    if (startsSealed) await fixture.retires()
    else {
      await new Promise((resolve) => setTimeout(resolve, 200))
      expect((await fixture.status()).oldKeyRetired).toBe(false)
      await fixture.seal()
      fixture.unseal(secondKey, 'source')
      await fixture.retires()
    }
  }
})

test('a store that cannot be written holds a job up and does not end it', async () => {
  using fixture = new Fixture()
  fixture.jobs.resume(fixture.vault, 'source', 1)
  for (let index = 0; index < 10; index++) await fixture.save('alice', `key-${index}`)
  let failures = 0
  fixture.store.engine.before = (step) => {
    if (step !== 'credentialRenew' || failures >= 2) return
    failures += 1
    throw Object.assign(new Error('no space'), { code: 'TEST' })
  }
  await fixture.rotate()
  await fixture.reaches('done')
  expect(failures).toBe(2)
  expect((await fixture.status()).job).toMatchObject({ done: 10, total: 10 })
})

test('a key that its source hands out while purser is being sealed is wiped', async () => {
  using scratch = new Scratch()
  // Read at the end of a job, and before a rotation to a key of purser's own making.
  for (const file of [undefined, `${scratch.path}/key`]) {
    using fixture = new Fixture()
    fixture.jobs.resume(fixture.vault, 'source', 1)
    await fixture.save('alice', 'key')
    fixture.file = file
    if (file !== undefined) writeFileSync(file, firstKey.toString('hex'), { mode: 0o600 })
    let sealing: Promise<void> | undefined
    fixture.beforeRead = () => {
      sealing = fixture.seal()
    }
    if (file === undefined) await fixture.rotate()
    else await expect(fixture.jobs.rotate(actOf(), undefined)).rejects.toMatchObject({ type: 'Sealed' })
    await until(() => sealing !== undefined)
    await sealing
    expect(fixture.handedOut).toHaveLength(1)
    expect(fixture.handedOut[0]).toEqual(Buffer.alloc(32))
  }
})

test('the key in the midst of being put into its file, while purser is being sealed, is wiped', async () => {
  using scratch = new Scratch()
  using fixture = new Fixture()
  fixture.file = `${scratch.path}/key`
  writeFileSync(fixture.file, firstKey.toString('hex'), { mode: 0o600 })
  fixture.jobs.resume(fixture.vault, 'source', 1)
  let reads = 0
  let sealing: Promise<void> | undefined
  fixture.beforeRead = () => {
    if (++reads === 2) sealing = fixture.seal()
  }
  await fixture.jobs.rotate(actOf(), undefined)
  await until(() => sealing !== undefined)
  await sealing
  for (const key of fixture.handedOut) expect(key).toEqual(Buffer.alloc(32))
})

test('a rotation that a seal overtakes leaves no key beside the key file', async () => {
  using scratch = new Scratch()
  using fixture = new Fixture()
  fixture.file = `${scratch.path}/key`
  writeFileSync(fixture.file, firstKey.toString('hex'), { mode: 0o600 })
  fixture.jobs.resume(fixture.vault, 'source', 1)
  fixture.beforeRead = () => void setImmediate(() => void fixture.seal())
  await expect(fixture.jobs.rotate(actOf(), undefined)).rejects.toMatchObject({ type: 'Sealed' })
  expect(readdirSync(scratch.path)).toEqual(['key'])
})

test('the old key leaves memory too where the log could not be emptied at first', async () => {
  using fixture = new Fixture()
  fixture.jobs.resume(fixture.vault, 'source', 1)
  await fixture.save('alice', 'key')
  let tries = 0
  fixture.beforeTruncate = () => {
    if (++tries === 1) throw new Error('busy')
  }
  fixture.sourceKey = secondKey
  await fixture.rotate()
  await fixture.retires()
  await until(() => tries === 2)
  await until(() => fixture.vault.keyring.masterKey(1) === null)
})

test('a row that cannot be written holds a job up also before thousands that are sealed anew already', async () => {
  using fixture = new Fixture()
  fixture.jobs.resume(fixture.vault, 'source', 1)
  const first = await fixture.save('alice', 'first')
  const { database } = fixture.store
  const columns = (database.pragma('table_info(credentials)') as { name: string }[]).map(({ name }) => name)
  const of: Record<string, string> = {
    credential_id: 'credential_id + n',
    epoch: '2',
    is_primary: '0',
    fingerprint: 'randomblob(32)',
  }
  const copied = columns.map((name) => of[name] ?? name).join(', ')
  database.exec(`INSERT INTO credentials (${columns.join(', ')})
    WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 4200)
    SELECT ${copied} FROM credentials, counted WHERE credential_id = ${first}`)
  database.exec('UPDATE store SET next_credential_id = next_credential_id + 4200')
  const last = await fixture.save('bob', 'last')
  fixture.store.engine.before = (step, operation) => {
    const [row] = (operation?.params ?? []) as [{ credentialId: number }?]
    if (step === 'credentialRenew' && row?.credentialId === first)
      throw Object.assign(new Error('no space'), { code: 'TEST' })
  }
  await fixture.rotate()
  await until(() => fixture.store.engine.log.includes('credentialRenew'))
  await new Promise((resolve) => setTimeout(resolve, 400))
  const sealed = await Promise.race([
    fixture.seal().then(() => 'sealed'),
    new Promise((resolve) => setTimeout(() => resolve('hangs'), 5000)),
  ])
  expect(sealed).toBe('sealed')
  expect(last).toBe(first + 4201)
})

test('a job that ends in the same commit as a seal writes nothing behind it, and ends after the unseal', async () => {
  using fixture = new Fixture()
  fixture.jobs.resume(fixture.vault, 'source', 1)
  await fixture.save('alice', 'key')
  let sealing: Promise<void> | null = null
  let renewed = false
  fixture.store.engine.before = (step) => {
    if (step === 'credentialRenew') renewed = true
    // The end of the job is queued behind this commit, and runs in the turn after it.
    if (step !== 'commit' || !renewed || sealing !== null) return
    sealing = new Promise((resolve) => setImmediate(() => resolve(fixture.seal())))
  }
  await fixture.rotate()
  await until(() => sealing !== null)
  await sealing
  expect((await fixture.status()).job!.state).toBe('paused')
  const stages = () => {
    const rows = statementsOf(fixture.store.database).auditRange(0, 1000)
    return rows.flatMap(({ action, details }) =>
      action === 'master_rotated' ? [JSON.parse(details).stage] : [],
    )
  }
  expect(stages()).toEqual(['started'])
  fixture.unseal(firstKey, 'operator')
  await fixture.reaches('done')
  expect(stages()).toEqual(['started', 'done'])
})
