import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import type { TestPurser } from '../../../src/testing/index.ts'
import { start } from './daemon.ts'
import { VaultServer } from './vault-server.ts'

/** A data directory, and the namespace of a Vault that is the key source of its daemon. */
export type Place = {
  readonly namespace: string
  readonly env: Record<string, string>
  readonly data: string
}

/** One Vault for the tests of a file, each of which has a place of its own. Call it at the top of the file. */
export class VaultPlaces {
  vault!: VaultServer
  /** Removed behind the last test. */
  directory!: string

  constructor() {
    beforeAll(async () => {
      this.directory = mkdtempSync(join(tmpdir(), 'purser-on-failure-'))
      this.vault = await VaultServer.start()
    })
    afterAll(async () => {
      await this.vault.close()
      rmSync(this.directory, { recursive: true, force: true })
    })
  }

  place(data = mkdtempSync(join(this.directory, 'data-'))): Place {
    const namespace = randomBytes(4).toString('hex')
    const token = this.vault.createToken('read', namespace)
    const env = { VAULT_ADDR: this.vault.address, VAULT_NAMESPACE: namespace, VAULT_TOKEN: token }
    return { namespace, env, data }
  }

  async makeStore(at: Place, key: Buffer): Promise<void> {
    this.vault.put({ key: key.toString('hex') }, at.namespace)
    const purser = await start(at.data, { env: at.env })
    await purser.rpc('users.put', { userId: 'alice' })
    await purser.stop()
  }
}

/** Starts a daemon that is sealed where its source fails. */
export function startSealing({ data, env }: Place, more: Record<string, string> = {}): Promise<TestPurser> {
  return start(data, { env: { ...env, PURSER_KEY_ON_FAILURE: 'seal' } }, more)
}

export async function sealedOf(purser: TestPurser): Promise<unknown> {
  return (await purser.rpc('system.status'))['sealed']
}
