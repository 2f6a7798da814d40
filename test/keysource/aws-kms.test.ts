import { expect, test } from 'vitest'
import { exitCodes } from '../../src/errors.ts'
import { awsKmsSource } from '../../src/keysource/aws-kms.ts'
import { offHeapCopy, SecretBytes } from '../../src/secret.ts'
import { KmsServer } from './support/kms-server.ts'

const key = Buffer.from(Array.from({ length: 32 }, (_, i) => i))

test('is configured by ENCRYPTED_MASTER_KEY alone', () => {
  expect(awsKmsSource({ AWS_KMS_KEY_ID: 'x', AWS_REGION: 'y' })).toBeNull()
  expect(awsKmsSource({ ENCRYPTED_MASTER_KEY: 'AQID' })).toMatchObject({ kind: 'aws-kms', warning: null })
})

test.each([
  ['empty', { ENCRYPTED_MASTER_KEY: '' }, 'ENCRYPTED_MASTER_KEY is not base64 of at most 6144 bytes'],
  ['no base64', { ENCRYPTED_MASTER_KEY: 'hush-hush!' }, 'ENCRYPTED_MASTER_KEY is not base64 of'],
  [
    'an address in the clear',
    { ENCRYPTED_MASTER_KEY: 'AQID', AWS_ENDPOINT_URL_KMS: 'http://10.0.0.1' },
    'AWS_ENDPOINT_URL_KMS is http to another host',
  ],
])('%s is exit 78 before anybody is asked', (_, env, message) => {
  const refused = expect.objectContaining({
    exitCode: exitCodes.config,
    message: expect.stringContaining(message),
  })
  expect(() => awsKmsSource(env)).toThrow(refused)
  expect(() => awsKmsSource(env)).not.toThrow(/hush/)
})

test('every read asks anew; the secret key is read when it is needed, and wiped', async () => {
  const kms = await KmsServer.start()
  const { AWS_SECRET_ACCESS_KEY: secret = '', ...rest } = kms.env
  const env = { ...rest, PATH: process.env['PATH'] }
  const handedOut: SecretBytes[] = []
  const secretOf = (name: string) => {
    if (name !== 'AWS_SECRET_ACCESS_KEY') return null
    handedOut.push(new SecretBytes(offHeapCopy(Buffer.from(secret))))
    return handedOut.at(-1)!
  }
  const ENCRYPTED_MASTER_KEY = kms.encrypt(kms.createKey(), key)
  const source = awsKmsSource({ ...env, ENCRYPTED_MASTER_KEY, AWS_KMS_KEY_ID: '' }, secretOf)!
  expect(handedOut).toHaveLength(0)
  for (const times of [1, 2]) {
    expect(await source.read()).toEqual(key)
    expect(kms.requests).toHaveLength(times)
  }
  expect(kms.requests[0]?.body).toEqual({ CiphertextBlob: ENCRYPTED_MASTER_KEY })
  expect(handedOut).toHaveLength(2)
  expect(handedOut.every(({ bytes }) => bytes.every((byte) => byte === 0))).toBe(true)
  await kms.close()
})
