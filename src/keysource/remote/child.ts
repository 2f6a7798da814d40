import { writeSync } from 'node:fs'
import { lockMemory, setNotDumpable } from '../../transport/libc.ts'
import type { MasterKeyBytes } from '../parse-key.ts'
import { decodeCiphertext } from './aws-variables.ts'
import { decodeRequest, encodeReport, isWholeRequest, reportOf, requestBytesMax } from './child-protocol.ts'
import { decryptWithKms } from './kms.ts'
import { SourceError } from './source-error.ts'
import { requestLimits } from './tries.ts'
import { readFromVault } from './vault.ts'
import { vaultAccess } from './vault-access.ts'

/**
 * The process that reads a master key from a key service and ends. It alone has the SDK, the token and the key in
 * strings, and whatever they leave in memory goes with it. A main program of its own, so it may use every room.
 *
 * It is given the service's name as argument and variables on stdin, which stays open for as long as somebody waits
 * for the key. It writes the 32 bytes to stdout and ends with 0, or one line to stderr and ends with 1.
 */

type Read = { readonly key: MasterKeyBytes; readonly warning: string | null }

/** The request; rejects when stdin ends before it. When stdin ends later nobody waits any more, and so does the process. */
function readRequest(): Promise<Record<string, string>> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0)
    process.stdin.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      if (received.length > requestBytesMax) reject(new Error('the request is too long'))
      else if (isWholeRequest(received)) resolve(decodeRequest(received))
    })
    const gone = () => process.exit(1)
    process.stdin.on('end', gone).on('error', gone)
  })
}

async function readKey(kind: string | undefined, variables: Record<string, string>): Promise<Read> {
  if (kind === 'vault') {
    const { result, warning } = await readFromVault(await vaultAccess(variables), requestLimits)
    return { key: result, warning }
  }
  if (kind !== 'aws-kms') throw new Error('unknown key service')
  // The SDK reads its settings there, and nowhere else.
  Object.assign(process.env, variables)
  const ciphertext = decodeCiphertext(variables['ENCRYPTED_MASTER_KEY'] ?? '')
  if (ciphertext === null) throw new Error('no ciphertext')
  const keyId = variables['AWS_KMS_KEY_ID'] || null
  return { key: await decryptWithKms({ ciphertext, keyId }, requestLimits), warning: null }
}

/** Whatever happens ends in one line: what Node or the SDK would print could hold a secret. */
function fail(error: unknown): never {
  const known =
    error instanceof SourceError
      ? error
      : new SourceError(
          `the process that reads the key failed (${error instanceof Error ? error.name : 'unknown'})`,
          'report this',
        )
  writeSync(2, encodeReport(reportOf(known)))
  process.exit(1)
}

async function main(): Promise<void> {
  const { key, warning } = await readKey(process.argv[2], await readRequest())
  if (warning !== null) writeSync(2, encodeReport({ warning }))
  writeSync(1, key)
  key.fill(0)
  process.exit(0)
}

process.on('uncaughtException', fail)
for (const method of ['log', 'info', 'warn', 'error', 'debug', 'trace'] as const)
  console[method] = () => undefined
setNotDumpable()
lockMemory()
await main().catch(fail)
