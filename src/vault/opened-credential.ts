import { offHeap, SecretBytes } from '../secret.ts'
import type { CredentialSecrets } from './credential-secrets.ts'
import { secureFree } from './secure-memory.ts'

/**
 * A credential's secrets in one secure allocation. It is held by the cache and by any number of requests; who is given
 * one holds it and calls `release` once when done. The last release wipes it. To wipe it when the cache drops it would
 * hand zeros to a request that still waits for its commit.
 */
export class OpenedCredential {
  /** When it was opened, on performance.now()'s clock. */
  readonly openedAtMs: number = performance.now()
  readonly #memory: Buffer
  /** What leaves in answers, made once: the same objects each time, so that an encoder need look at them once only. */
  #outgoing: Outgoing | null
  #secrets: CredentialSecrets | null
  #holders: number

  /**
   * Takes ownership of `memory`, a secure allocation, of which `secrets` are views. Each of the `holders`, who are at
   * least one, will call `release`.
   */
  constructor(memory: Buffer, secrets: CredentialSecrets, holders: number) {
    this.#memory = memory
    this.#secrets = secrets
    this.#holders = holders
    const { apiSecret, passphrase } = secrets
    this.#outgoing = {
      apiSecret: new SecretBytes(apiSecret),
      passphrase: passphrase === null ? null : new SecretBytes(passphrase),
    }
  }

  /** UTF-8 text. This and the views below are valid until the caller's release and are not the caller's to wipe. */
  get apiKey(): Buffer {
    return this.#held().apiKey
  }

  /** UTF-8 text. */
  get apiSecret(): Buffer {
    return this.#held().apiSecret
  }

  /** UTF-8 text; null where the credential has none. */
  get passphrase(): Buffer | null {
    return this.#held().passphrase
  }

  /** 32 bytes; null where the credential has none. */
  get privateKey(): Buffer | null {
    return this.#held().privateKey
  }

  /** What leaves in answers as it is; valid and owned like the views above. Of the private key see privateKeyHex. */
  get outgoing(): Outgoing {
    this.#held()
    return this.#outgoing!
  }

  /** One more holder, who will call `release`. */
  retain(): this {
    this.#held()
    this.#holders += 1
    return this
  }

  /** Ends one holder's use. Throws Error where it has been wiped already: somebody released twice. */
  release(): void {
    this.#held()
    this.#holders -= 1
    if (this.#holders > 0) return
    this.#secrets = null
    this.#outgoing = null
    secureFree(this.#memory)
  }

  /** Views of freed memory have length 0, and an empty key would sign or be answered: better to fail. */
  #held(): CredentialSecrets {
    if (this.#secrets === null) throw new Error('the opened credential was released')
    return this.#secrets
  }
}

type Outgoing = {
  readonly apiSecret: SecretBytes
  readonly passphrase: SecretBytes | null
}

/**
 * A private key as it goes over the wire: `0x` and 64 lower-case digits, in off-heap bytes that the caller wipes.
 * No string is made, and no table is read at an index that is secret.
 */
export function privateKeyHex(privateKey: Buffer): Buffer {
  const text = offHeap(2 + 2 * privateKey.length)
  text.write('0x', 'latin1')
  for (const [index, byte] of privateKey.entries()) {
    text[2 + 2 * index] = hexDigit(byte >> 4)
    text[3 + 2 * index] = hexDigit(byte & 0x0f)
  }
  return text
}

/** '0' to '9' are 48 to 57; 'a' is 97, which is 39 past where '9' would go on. */
function hexDigit(nibble: number): number {
  return 48 + nibble + (((9 - nibble) >> 8) & 39)
}
