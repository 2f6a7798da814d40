import { secureAlloc } from './secure-memory.ts'

/** The length of a field goes into two bytes. A line of the protocol holds 65,536, so no field that arrived is longer. */
const MAX_FIELD_BYTES = 0xffff
const PRIVATE_KEY_BYTES = 32
const ABSENT = 0
const PRESENT = 1

/**
 * What an envelope protects. `apiKey`, `apiSecret` and `passphrase` are UTF-8 text, `privateKey` the 32 bytes
 * themselves.
 */
export type CredentialSecrets = {
  readonly apiKey: Buffer
  readonly apiSecret: Buffer
  readonly passphrase: Buffer | null
  readonly privateKey: Buffer | null
}

/**
 * The plaintext of an envelope, in a secure allocation that the caller frees: per field a byte that says whether there
 * is one, its length in two bytes and the field. An empty passphrase and none are told apart. Throws RangeError for a
 * missing API key or secret and for a length out of bounds.
 */
export function encodeSecrets(secrets: CredentialSecrets): Buffer {
  const { apiKey, apiSecret, passphrase, privateKey } = secrets
  if (apiKey.length === 0 || apiSecret.length === 0)
    throw new RangeError('an API key and a secret are needed')
  if (privateKey !== null && privateKey.length !== PRIVATE_KEY_BYTES) {
    throw new RangeError('a private key is 32 bytes')
  }
  const fields = [apiKey, apiSecret, passphrase, privateKey]
  if (fields.some((field) => field !== null && field.length > MAX_FIELD_BYTES)) {
    throw new RangeError('a secret holds at most 65535 bytes')
  }
  const length = fields.reduce((sum, field) => sum + (field === null ? 1 : 3 + field.length), 0)
  const plaintext = secureAlloc(length)
  let offset = 0
  for (const field of fields) {
    offset = plaintext.writeUInt8(field === null ? ABSENT : PRESENT, offset)
    if (field === null) continue
    offset = plaintext.writeUInt16BE(field.length, offset)
    offset += field.copy(plaintext, offset)
  }
  return plaintext
}

/** The fields of a plaintext, as views of it; null where it is not exactly what encodeSecrets makes. */
export function decodeSecrets(plaintext: Buffer): CredentialSecrets | null {
  const fields: (Buffer | null)[] = []
  let offset = 0
  for (let index = 0; index < 4; index++) {
    const presence = plaintext[offset]
    offset += 1
    if (presence === ABSENT) {
      fields.push(null)
      continue
    }
    if (presence !== PRESENT || offset + 2 > plaintext.length) return null
    const start = offset + 2
    offset = start + plaintext.readUInt16BE(offset)
    if (offset > plaintext.length) return null
    fields.push(plaintext.subarray(start, offset))
  }
  const [apiKey, apiSecret, passphrase = null, privateKey = null] = fields
  if (offset !== plaintext.length) return null
  if (apiKey == null || apiSecret == null || apiKey.length === 0 || apiSecret.length === 0) return null
  if (privateKey !== null && privateKey.length !== PRIVATE_KEY_BYTES) return null
  return { apiKey, apiSecret, passphrase, privateKey }
}
