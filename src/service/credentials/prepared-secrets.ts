import { offHeapCopy, type SecretBytes } from '../../secret.ts'
import { addressOfPrivateKey } from '../../signer/address.ts'
import type { CredentialSecrets } from '../../vault/credential-secrets.ts'
import type { Vault } from '../../vault/vault.ts'
import { canonicalApiSecret, parsePrivateKey } from './secret-forms.ts'

export type SecretParams = {
  apiKey: string
  apiSecret: SecretBytes
  passphrase?: SecretBytes | undefined
  privateKey?: SecretBytes | undefined
}

/** Secrets in the form they are kept in, wiped by `wipe`. */
export type CheckedSecrets = CredentialSecrets & { address: string | null; wipe(): void }
/** The fingerprint takes a key of the store, so it is made once purser is known not to be sealed. */
export type PreparedSecrets = CheckedSecrets & { fingerprint: Buffer }

/** With their fingerprint. Sealed. */
export function fingerprinted(secrets: CheckedSecrets, vault: Vault): PreparedSecrets {
  return { ...secrets, fingerprint: vault.keyring.fingerprint(secrets.apiKey) }
}

/** Checks the secrets and puts them into the form they are kept in. InvalidParams. */
export function checkSecrets(params: SecretParams): CheckedSecrets {
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
      wipe,
    }
  } catch (error) {
    wipe()
    throw error
  }
}
