import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { exitCodes } from '../../../src/errors.ts'
import { type FetchRequest, fetchKey } from '../../../src/keysource/remote/fetch-key.ts'
import { KmsServer } from '../support/kms-server.ts'
import { silence } from '../support/serve.ts'
import { makeCa, noOpenssl } from '../support/tls.ts'

if (noOpenssl !== null) console.warn(`AWS KMS by TLS is not tested: ${noOpenssl}`)

const key = randomBytes(32)
const env = { PATH: process.env['PATH'], HOME: '/nonexistent' }

const kmsRequest = (kms: KmsServer, change: Record<string, string | undefined> = {}): FetchRequest => {
  const ENCRYPTED_MASTER_KEY = kms.encrypt(kms.createKey(), key)
  const all: Record<string, string | undefined> = { ...kms.env, ENCRYPTED_MASTER_KEY, ...change }
  const variables = Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined)
  return { kind: 'aws-kms', place: 'AWS KMS', variables, env, signal: undefined }
}
const noKeys = { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined }

test('with the credentials and region of a profile; what the SDK says of it is not taken for a report', async () => {
  const kms = await KmsServer.start()
  const directory = mkdtempSync(join(tmpdir(), 'purser-profile-'))
  const files = {
    AWS_CONFIG_FILE: join(directory, 'config'),
    AWS_SHARED_CREDENTIALS_FILE: join(directory, 'keys'),
  }
  writeFileSync(files.AWS_CONFIG_FILE, `[profile bots]\nregion = ${kms.env['AWS_REGION']}\n`)
  writeFileSync(
    files.AWS_SHARED_CREDENTIALS_FILE,
    '[bots]\naws_access_key_id = AKIDPURSER\naws_secret_access_key = kms/secret+key\n',
  )
  try {
    const byProfile = { ...files, AWS_PROFILE: 'bots', AWS_REGION: undefined, ...noKeys }
    expect((await fetchKey(kmsRequest(kms, byProfile))).key).toEqual(key)
    // Both at once make the SDK write a page to stderr, in which its reason must not drown.
    const both = { ...files, AWS_PROFILE: 'bots', AWS_KMS_KEY_ID: kms.createKey() }
    await expect(fetchKey(kmsRequest(kms, both))).rejects.toThrow('it answered IncorrectKeyException (400)')
    expect(await fetchKey(kmsRequest(kms, { ...files, AWS_PROFILE: 'bots' }))).toEqual({
      key,
      warning: null,
    })
  } finally {
    rmSync(directory, { recursive: true, force: true })
    await kms.close()
  }
})

test('without credentials it fails within seconds', async () => {
  const kms = await KmsServer.start()
  await expect(fetchKey(kmsRequest(kms, noKeys))).rejects.toMatchObject({
    exitCode: exitCodes.masterKey,
    message: 'no master key from AWS KMS: no AWS credentials were found',
  })
  expect(kms.requests).toHaveLength(0)
  await kms.close()
})

test.skipIf(noOpenssl !== null)('by TLS, with the CA of NODE_EXTRA_CA_CERTS', async () => {
  const ca = makeCa()
  const kms = await KmsServer.start(ca.server)
  const secure = { AWS_ENDPOINT_URL: `https://localhost:${kms.port}` }
  try {
    await expect(fetchKey(kmsRequest(kms, secure))).rejects.toThrow(
      /^no master key from AWS KMS: the certificate of localhost:\d+ is not/,
    )
    const trusting = { ...env, NODE_EXTRA_CA_CERTS: ca.caFile }
    expect((await fetchKey({ ...kmsRequest(kms, secure), env: trusting })).key).toEqual(key)
  } finally {
    await kms.close()
    ca.remove()
  }
})

// The real limits, which the others shorten.
test('an answer that takes longer than 5 s is not waited for, and asked for again', async () => {
  const kms = await KmsServer.start()
  kms.interjections.push(silence)
  const startedAt = performance.now()
  expect((await fetchKey(kmsRequest(kms))).key).toEqual(key)
  const tookMs = performance.now() - startedAt
  expect(tookMs).toBeGreaterThan(5200)
  expect(tookMs).toBeLessThan(9000)
  expect(kms.requests).toHaveLength(2)
  await kms.close()
})
