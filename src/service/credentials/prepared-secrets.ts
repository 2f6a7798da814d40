import { offHeapCopy, type SecretBytes } from '../../secret.ts'
import { addressOfPrivateKey } from '../../signer/address.ts'
import type { CredentialSecrets } from '../../vault/credential-secrets.ts'
import { canonicalApiSecret, parsePrivateKey } from './secret-forms.ts'

export type SecretParams = {
  apiKey: string
  apiSecret: SecretBytes
  passphrase?: SecretBytes | undefined
  privateKey?: SecretBytes | undefined
}

/** Secrets in the form they are kept in, wiped by `wipe`. */
export type PreparedSecrets = CredentialSecrets & {
  address: string | null
  fingerprint: Buffer
  wipe(): void
}

/** Checks the secrets and puts them into the form they are kept in. InvalidParams. */
export function prepareSecrets(
  params: SecretParams,
  fingerprintOf: (apiKey: Buffer) => Buffer,
): PreparedSecrets {
  const made: Buffer[] = []
  const keep = (bytes: Buffer) => {
    made.push(bytes)
    return bytes
  }
  const wipe = () => {
    for (const bytes of made) bytes.fill(0)
  }
  try {
    const apiKey = keep(offHeapCopy(Buffer.from(params.apiKey, 'utf8')))
    const apiSecret = keep(canonicalApiSecret(params.apiSecret.bytes))
    const privateKey = params.privateKey === undefined ? null : keep(parsePrivateKey(params.privateKey.bytes))
    return {
      apiKey,
      apiSecret,
      passphrase: params.passphrase === undefined ? null : keep(offHeapCopy(params.passphrase.bytes)),
      privateKey,
      address: privateKey === null ? null : addressOfPrivateKey(privateKey),
      fingerprint: fingerprintOf(apiKey),
      wipe,
    }
  } catch (error) {
    wipe()
    throw error
  }
}
