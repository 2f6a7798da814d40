import { randomBytes } from 'node:crypto'
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPurser, type TestPurser } from '../../src/testing/index.ts'
import { KmsServer } from './support/kms-server.ts'
import { VaultServer } from './support/vault-server.ts'

const noRoot =
  process.getuid?.() === 0 ? null : 'only root can look into the memory of a process that is not dumpable'
if (noRoot !== null) console.warn(`what a key source leaves in memory is not tested: ${noRoot}`)

const chunkBytes = 1024 * 1024

/** How often each needle lies in the memory of a process, inaccessible pages included. */
function countInMemory(pid: number, needles: readonly Buffer[]): number[] {
  const counts = needles.map(() => 0)
  const overlap = Math.max(...needles.map(({ length }) => length)) - 1
  const fd = openSync(`/proc/${pid}/mem`, 'r')
  const bytes = Buffer.alloc(chunkBytes + overlap)
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, start, end, mode] = /^([0-9a-f]+)-([0-9a-f]+) (....) /.exec(line) ?? []
      if (start === undefined) continue
      // V8 reserves terabytes of address space that nobody can have touched; guarded allocations are small.
      const length = Number(BigInt(`0x${end}`) - BigInt(`0x${start}`))
      if (mode === '---p' && length > 4 * chunkBytes) continue
      for (let at = BigInt(`0x${start}`); at < BigInt(`0x${end}`); at += BigInt(chunkBytes)) {
        const left = Number(BigInt(`0x${end}`) - at)
        let bytesRead = 0
        try {
          bytesRead = readSync(fd, bytes, 0, Math.min(bytes.length, left), at as unknown as number)
        } catch {
          break
        }
        const chunk = bytes.subarray(0, bytesRead)
        needles.forEach((needle, index) => {
          for (let found = chunk.indexOf(needle); found !== -1; found = chunk.indexOf(needle, found + 1))
            if (found < chunkBytes) counts[index]! += 1
        })
      }
    }
  } finally {
    closeSync(fd)
  }
  return counts
}

let directory: string
let kms: KmsServer
let vault: VaultServer
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'purser-memory-'))
  kms = await KmsServer.start()
  vault = await VaultServer.start()
})
afterAll(async () => {
  await Promise.all([kms.close(), vault.close()])
  rmSync(directory, { recursive: true, force: true })
})

/** Counts of the raw key, of its texts, and of `secrets`, in a daemon that was started with `env`. */
async function countsOf(key: Buffer, env: Record<string, string>, args: string[], secrets: string[]) {
  const purser: TestPurser = await startPurser({ fastKdf: true, masterKey: null, env, args })
  try {
    const texts = ['hex', 'base64', 'base64url'].map((form) => key.toString(form as 'hex').slice(0, 40))
    const [raw, ...rest] = countInMemory(purser.pid, [
      key,
      ...texts.map((text) => Buffer.from(text)),
      ...secrets.map((text) => Buffer.from(text)),
    ])
    return { raw, texts: rest.slice(0, 3), secrets: rest.slice(3) }
  } finally {
    await purser.stop()
  }
}

test.skipIf(noRoot !== null)(
  'a key from KMS or Vault leaves no more in the daemon than one from a file, and its token nothing',
  async () => {
    const key = randomBytes(32)
    const file = join(directory, 'key')
    writeFileSync(file, key.toString('base64'), { mode: 0o600 })
    const token = vault.createToken()
    const tokenFile = join(directory, 'token')
    writeFileSync(tokenFile, token, { mode: 0o600 })
    vault.put({ key: key.toString('base64') })
    const { roleId, secretId } = vault.createRole()
    const awsSecret = String(kms.env['AWS_SECRET_ACCESS_KEY'])
    const [byFile, byKms, byToken, byRole] = await Promise.all([
      countsOf(key, {}, ['--master-key-file', file], []),
      countsOf(
        key,
        { ...kms.env, ENCRYPTED_MASTER_KEY: kms.encrypt(kms.createKey(), Buffer.from(key.toString('hex'))) },
        [],
        [awsSecret],
      ),
      countsOf(key, { VAULT_ADDR: vault.address, VAULT_TOKEN_FILE: tokenFile }, [], [token]),
      countsOf(
        key,
        { VAULT_ADDR: vault.address, VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId },
        [],
        [secretId],
      ),
    ])
    console.log(JSON.stringify({ byFile, byKms, byToken, byRole }))
    // The look finds what is there: the keyring's own copy.
    expect(byFile.raw).toBeGreaterThan(0)
    for (const counts of [byKms, byToken, byRole]) {
      expect(counts.raw).toBeLessThanOrEqual(byFile.raw!)
      expect(counts.texts).toEqual([0, 0, 0])
    }
    expect(byToken.secrets).toEqual([0])
    // One each: the environment of the process as the kernel put it there.
    expect(byKms.secrets).toEqual([1])
    expect(byRole.secrets).toEqual([1])
  },
)

test.skipIf(noRoot !== null)(
  'a key in the environment that a sealed start does not read is wiped',
  async () => {
    const key = randomBytes(32)
    for (const form of ['hex', 'base64'] as const) {
      const counts = await countsOf(key, { MASTER_ENCRYPTION_KEY: key.toString(form) }, ['--sealed'], [])
      expect(counts).toEqual({ raw: 0, texts: [0, 0, 0], secrets: [] })
    }
  },
)
