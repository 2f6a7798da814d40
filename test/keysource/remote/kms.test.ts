import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { decryptWithKms, encryptWithKms } from '../../../src/keysource/remote/kms.ts'
import type { SourceError } from '../../../src/keysource/remote/source-error.ts'
import { KmsServer } from '../support/kms-server.ts'
import { answering, flood, hangUp, silence, stall } from '../support/serve.ts'

const limits = { timeoutMs: 400, pausesMs: [10, 20] }
const key = randomBytes(32)

let home: string
let kms: KmsServer
let keyId: string
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'purser-kms-'))
  kms = await KmsServer.start()
  keyId = kms.createKey()
})
afterAll(async () => {
  await kms.close()
  rmSync(home, { recursive: true, force: true })
})
beforeEach(() => {
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined)
  vi.stubEnv('HOME', home)
  for (const [name, value] of Object.entries(kms.env)) vi.stubEnv(name, value)
})
afterEach(() => {
  vi.unstubAllEnvs()
  kms.requests.length = 0
  kms.interjections.length = 0
  kms.clockAheadMs = 0
})

const decrypt = (text: string, demanded: string | null = null) =>
  decryptWithKms({ ciphertext: Buffer.from(text, 'base64'), keyId: demanded }, limits)

async function refusal(reading: Promise<unknown>): Promise<SourceError> {
  const error = await reading.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({ name: 'SourceError' })
  const text = JSON.stringify(error) + String(error) + (error as SourceError).hint
  expect(text).not.toContain('kms/secret+key')
  return error as SourceError
}

describe('decrypts', () => {
  test('32 raw bytes, and a key as text with white space around it', async () => {
    for (const plaintext of [
      key,
      Buffer.from(key.toString('base64')),
      Buffer.from(`${key.toString('base64url')}\n`),
      Buffer.from(`  ${key.toString('hex')}\n`),
    ])
      expect(await decrypt(kms.encrypt(keyId, plaintext))).toEqual(key)
    expect(kms.requests.every(({ target }) => target === 'TrentService.Decrypt')).toBe(true)
    expect(kms.requests).toHaveLength(4)
  })

  test('32 bytes that happen to look like text are the key, not text', async () => {
    const digits = Buffer.from('0123456789abcdef0123456789abcdef')
    expect(await decrypt(kms.encrypt(keyId, digits))).toEqual(digits)
  })

  test('what was encrypted through the SDK', async () => {
    const ciphertext = await encryptWithKms({ key, keyId }, limits)
    expect(await decrypt(Buffer.from(ciphertext).toString('base64'), keyId)).toEqual(key)
    expect(kms.requests.map(({ target }) => target)).toEqual(['TrentService.Encrypt', 'TrentService.Decrypt'])
  })

  test('with a session token', async () => {
    kms.accessKeys.set('AKIDSESSION', { secret: 'another', sessionToken: 'session+token/==' })
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDSESSION')
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'another')
    vi.stubEnv('AWS_SESSION_TOKEN', 'session+token/==')
    expect(await decrypt(kms.encrypt(keyId, key))).toEqual(key)
  })

  test('by an address for KMS alone', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')
    vi.stubEnv('AWS_ENDPOINT_URL_KMS', `http://localhost:${kms.port}`)
    expect(await decrypt(kms.encrypt(keyId, key))).toEqual(key)
  })

  test('though the clock is an hour off: the second try is dated as the service says', async () => {
    kms.clockAheadMs = 3_600_000
    expect(await decrypt(kms.encrypt(keyId, key))).toEqual(key)
    expect(kms.requests).toHaveLength(2)
  })

  test('AWS_KMS_KEY_ID is sent as KeyId, and another key is refused at once', async () => {
    const ciphertext = kms.encrypt(keyId, key)
    expect(await decrypt(ciphertext, keyId)).toEqual(key)
    expect(kms.requests[0]?.body).toMatchObject({ KeyId: keyId })
    const error = await refusal(decrypt(ciphertext, kms.createKey()))
    expect(error.message).toBe('it answered IncorrectKeyException (400)')
    expect(kms.requests).toHaveLength(2)
  })
})

describe('refused for good, at the first try', () => {
  const oneTry = async (reading: Promise<unknown>, message: string) => {
    expect((await refusal(reading)).message).toBe(message)
    expect(kms.requests).toHaveLength(1)
  }

  test('a wrong secret key', async () => {
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'kms/secret-key')
    await oneTry(decrypt(kms.encrypt(keyId, key)), 'it answered InvalidSignatureException (400)')
  })

  test('a signature for another region', async () => {
    vi.stubEnv('AWS_REGION', 'us-east-1')
    await oneTry(decrypt(kms.encrypt(keyId, key)), 'it answered InvalidSignatureException (400)')
  })

  test('an unknown access key', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDNOBODY')
    await oneTry(decrypt(kms.encrypt(keyId, key)), 'it answered UnrecognizedClientException (400)')
  })

  test('credentials without the right', async () => {
    kms.accessKeys.set('AKIDDENIED', { secret: 'denied', denied: true })
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDDENIED')
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'denied')
    await oneTry(decrypt(kms.encrypt(keyId, key)), 'it answered AccessDeniedException (400)')
  })

  test('ciphertext that was altered, or made in another account', async () => {
    const ciphertext = Buffer.from(kms.encrypt(keyId, key), 'base64')
    ciphertext[50]! ^= 1
    await oneTry(decrypt(ciphertext.toString('base64')), 'it answered InvalidCiphertextException (400)')
    ciphertext[0]! ^= 1
    const error = await refusal(decrypt(ciphertext.toString('base64')))
    expect(error.message).toBe('it answered InvalidCiphertextException (400)')
  })

  test('plaintext that is no key', async () => {
    await oneTry(decrypt(kms.encrypt(keyId, randomBytes(33))), 'what it holds is no master key')
  })

  test.each([
    ['no JSON', answering(200, '<html>'), /^its answer is not that of AWS KMS/],
    ['no plaintext', answering(200, {}), /^its answer is not that of AWS KMS/],
    ['an answer without end', flood, /^its answer is longer than 256 KiB$/],
    [
      'a redirect',
      answering(307, '', { location: 'http://127.0.0.1:1/' }),
      /^it redirects elsewhere \(307\)$/,
    ],
    ['a refusal without a name', answering(403, 'no'), /^it answered .* \(403\)$/],
  ])('%s', async (_, interjection, message) => {
    kms.interjections.push(interjection)
    expect((await refusal(decrypt(kms.encrypt(keyId, key)))).message).toMatch(message)
    expect(kms.requests).toHaveLength(1)
  })
})

describe('tried three times', () => {
  const throttled = answering(
    400,
    { __type: 'ThrottlingException', message: 'Rate exceeded' },
    { 'content-type': 'application/x-amz-json-1.1' },
  )
  const internal = answering(500, { __type: 'KMSInternalException' })
  const later: [string, typeof throttled, string][] = [
    ['throttling', throttled, 'it answered ThrottlingException (400)'],
    ['a failure inside', internal, 'it answered KMSInternalException (500)'],
    ['a proxy in between', answering(503, 'busy'), 'it answered '],
    ['no answer in time', silence, 'no answer within 0.4 s'],
    ['half an answer in time', stall, 'no answer within 0.4 s'],
    ['a connection that is cut', hangUp, 'cannot be reached (ECONNRESET)'],
  ]

  test.each(later)('%s: the third try brings the key', async (_, interjection) => {
    kms.interjections.push(interjection, interjection)
    expect(await decrypt(kms.encrypt(keyId, key))).toEqual(key)
    expect(kms.requests).toHaveLength(3)
  })

  test.each(later)('%s: after the third it is over', async (_, interjection, message) => {
    kms.interjections.push(interjection, interjection, interjection)
    expect((await refusal(decrypt(kms.encrypt(keyId, key)))).message).toContain(message)
    expect(kms.requests).toHaveLength(3)
  })

  test('nobody there', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL', 'http://127.0.0.1:1')
    const error = await refusal(decrypt(kms.encrypt(keyId, key)))
    expect(error.message).toBe('127.0.0.1:1 cannot be reached (ECONNREFUSED)')
  })
})

describe('is not asked', () => {
  test('by http on another host', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL', 'http://192.0.2.1')
    const error = await refusal(decrypt(kms.encrypt(keyId, key)))
    expect(error).toMatchObject({ message: 'its address http://192.0.2.1 is not https', exit: 'config' })
  })

  test('without a region', async () => {
    vi.stubEnv('AWS_REGION', undefined)
    const error = await refusal(decrypt(kms.encrypt(keyId, key)))
    expect(error).toMatchObject({ message: 'no AWS region is set', exit: 'config' })
  })

  test('without credentials, nor is the metadata of an EC2 instance', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', undefined)
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', undefined)
    const error = await refusal(decrypt(kms.encrypt(keyId, key)))
    expect(error.message).toBe('no AWS credentials were found')
    expect(process.env['AWS_EC2_METADATA_DISABLED']).toBe('true')
  })

  test.each(['AWS_EC2_METADATA_DISABLED', 'AWS_EC2_METADATA_SERVICE_ENDPOINT'])(
    'the metadata is, where %s says so',
    async (name) => {
      const metadata = await KmsServer.start()
      const address = `http://127.0.0.1:${metadata.port}`
      vi.stubEnv('AWS_ACCESS_KEY_ID', undefined)
      vi.stubEnv('AWS_EC2_METADATA_DISABLED', undefined)
      vi.stubEnv(name, name === 'AWS_EC2_METADATA_DISABLED' ? 'false' : address)
      vi.stubEnv('AWS_EC2_METADATA_SERVICE_ENDPOINT', address)
      metadata.interjections.push(answering(404, ''), answering(404, ''))
      await refusal(decrypt(kms.encrypt(keyId, key)))
      expect(metadata.requests.length).toBeGreaterThan(0)
      await metadata.close()
    },
  )
})
