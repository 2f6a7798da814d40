/**
 * A process of its own whose memory memory.test.ts reads from outside. It takes the master key and the secrets from
 * fd 3, one word at a time from stdin, and answers each word with one line.
 */
import { createHash } from 'node:crypto'
import { readSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { addressOfPrivateKey } from '../../src/signer/address.ts'
import { DerivationQueue } from '../../src/vault/derivation-queue.ts'
import { createKeyMaterial, openKeyring } from '../../src/vault/keyring.ts'
import { OpenedCache } from '../../src/vault/opened-cache.ts'
import type { OpenedCredential } from '../../src/vault/opened-credential.ts'
import { privateKeyHex } from '../../src/vault/opened-credential.ts'
import { secureAlloc, secureFree } from '../../src/vault/secure-memory.ts'
import { Vault } from '../../src/vault/vault.ts'

const context = { userId: 'alice', credentialId: 7, privateKeyPolicy: 'exportable' } as const

const input = secureAlloc(32 + 48 + 32)
readSync(3, input)
const masterKey = input.subarray(0, 32)
const secrets = {
  apiKey: Buffer.from('an api key'),
  apiSecret: input.subarray(32, 80),
  passphrase: null,
  privateKey: input.subarray(80),
}

const material = createKeyMaterial(masterKey)
const keyring = openKeyring(masterKey, material)
const queue = new DerivationQueue()
const vault = new Vault({ keyring, queue, kdf: { memoryKib: 64, iterations: 1 } })
const cache = new OpenedCache({ maxEntries: 10, ttlMs: 60_000 })
let envelope: Buffer = Buffer.alloc(0)
let held: OpenedCredential | null = null

const words: Record<string, () => string | Promise<string>> = {
  async seal() {
    envelope = await vault.seal(context, secrets)
    secureFree(input)
    return envelope.toString('hex')
  },
  async open() {
    held = await vault.open(envelope, context)
    cache.set(7, 1, held)
    return String(cache.size)
  },
  release() {
    held?.release()
    return 'released'
  },
  drop() {
    cache.drop(7)
    return String(cache.size)
  },
  read() {
    return createHash('sha256')
      .update(held?.apiSecret ?? '')
      .digest('hex')
  },
  address() {
    return addressOfPrivateKey(held?.privateKey ?? Buffer.alloc(0))
  },
  hex() {
    const text = privateKeyHex(held?.privateKey ?? Buffer.alloc(0))
    const digest = createHash('sha256').update(text).digest('hex')
    text.fill(0)
    return digest
  },
  async tamper() {
    const altered = Buffer.from(envelope)
    altered.writeUInt8(altered.readUInt8(altered.length - 1) ^ 1, altered.length - 1)
    return vault.open(altered, context).then(
      () => 'opened',
      () => 'refused',
    )
  },
  async reseal() {
    envelope = await vault.reseal(envelope, context, context)
    return envelope.toString('hex')
  },
  async close() {
    await vault.close()
    return 'closed'
  },
  gc() {
    globalThis.gc?.()
    return 'collected'
  },
}

for await (const word of createInterface({ input: process.stdin })) {
  console.log(await words[word]?.())
}
