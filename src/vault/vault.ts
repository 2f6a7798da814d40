import { createHash } from 'node:crypto'
import { PurserError } from '../errors.ts'
import { type CredentialSecrets, decodeSecrets, encodeSecrets } from './credential-secrets.ts'
import type { DerivationQueue } from './derivation-queue.ts'
import {
  associatedData,
  decryptionFailed,
  ENVELOPE_VERSION,
  type EnvelopeContext,
  type EnvelopeHeader,
  newEnvelopeHeader,
  openEnvelope,
  parseEnvelope,
  sealEnvelope,
} from './envelope.ts'
import { deriveKek, type KdfParams, kdfParamsAreBounded } from './kdf.ts'
import type { Keyring } from './keyring.ts'
import { uint32 } from './length-prefixed.ts'
import { OpenedCredential } from './opened-credential.ts'
import { secureFree } from './secure-memory.ts'

/** Where an envelope belongs; the store is the vault's own. */
export type CredentialContext = Omit<EnvelopeContext, 'storeId'>

/** Whose derivation it is: that of a request, or one that has what requests leave. */
type Priority = 'request' | 'background'

/** An opening under way, and how many callers wait for it: each will hold the result. */
type Opening = { readonly result: Promise<OpenedCredential>; holders: number }

/**
 * Seals and opens envelopes with the keys of an unsealed store. Every key of an envelope is derived, used once and
 * wiped; nothing opened is kept (see OpenedCache). The queue may be shared and outlives the vault.
 */
export class Vault {
  readonly keyring: Keyring
  readonly #queue: DerivationQueue
  readonly #kdf: KdfParams
  /** By what is opened where: see openingKey. */
  readonly #openings = new Map<string, Opening>()
  readonly #underWay = new Set<Promise<unknown>>()

  /** `kdf` is the cost of new envelopes; stored ones carry their own. The vault closes `keyring`. */
  constructor(parts: {
    readonly keyring: Keyring
    readonly queue: DerivationQueue
    readonly kdf: KdfParams
  }) {
    if (!kdfParamsAreBounded(parts.kdf)) throw new RangeError('key derivation parameters out of bounds')
    this.keyring = parts.keyring
    this.#queue = parts.queue
    this.#kdf = parts.kdf
  }

  /**
   * A new envelope of `secrets` for this context. They are copied before this returns: the caller may wipe its own at
   * once. One derivation. Rejects with Overloaded, or Sealed where the vault was closed meanwhile.
   */
  seal(context: CredentialContext, secrets: CredentialSecrets): Promise<Buffer> {
    return this.#track(async () => {
      const plaintext = encodeSecrets(secrets)
      try {
        return await this.#sealPlaintext(context, plaintext)
      } finally {
        secureFree(plaintext)
      }
    })
  }

  /**
   * The opened credential, of which the caller is one holder. Calls for the same envelope in the same context share
   * one derivation; each holds the result and releases it. Rejects with DecryptionFailed, Overloaded or Sealed.
   */
  async open(envelope: Buffer, context: CredentialContext): Promise<OpenedCredential> {
    const { header, key } = this.#locate(envelope, context)
    const opening = this.#openings.get(key) ?? this.#startOpening(key, envelope, header, context)
    opening.holders += 1
    return opening.result
  }

  /** Whether `open` of the same would join an opening under way: such a call is no decryption of its own. */
  isOpening(envelope: Buffer, context: CredentialContext): boolean {
    return this.#openings.has(this.#locate(envelope, context).key)
  }

  /**
   * Opens an envelope and seals its contents anew, for the same context or another: fresh salt, key and nonce, the
   * present epoch and cost. The plaintext stays in secure memory. Two derivations. Rejects as `open` does.
   */
  reseal(envelope: Buffer, from: CredentialContext, to: CredentialContext): Promise<Buffer> {
    return this.#track(async () => {
      const { header } = this.#locate(envelope, from)
      const plaintext = await this.#openPlaintext(envelope, header, from)
      try {
        return await this.#sealPlaintext(to, plaintext)
      } finally {
        secureFree(plaintext)
      }
    })
  }

  /**
   * Seals an envelope's contents anew in their place, as `reseal` does, but gives way to requests: its derivations run
   * in the background of the queue.
   */
  renew(envelope: Buffer, context: CredentialContext): Promise<Buffer> {
    return this.#track(async () => {
      const { header } = this.#locate(envelope, context)
      const plaintext = await this.#openPlaintext(envelope, header, context, 'background')
      try {
        return await this.#sealPlaintext(context, plaintext, 'background')
      } finally {
        secureFree(plaintext)
      }
    })
  }

  /** Wipes the key of an epoch once nothing under way can need it. The store must hold no envelope of it any more. */
  async retire(epoch: number): Promise<void> {
    await Promise.allSettled([...this.#underWay])
    this.keyring.retire(epoch)
  }

  /**
   * Wipes the keys. What waits or runs ends in Sealed and gives nothing out; resolves when the last of it has ended
   * and its memory is wiped.
   */
  async close(): Promise<void> {
    this.keyring.close()
    await Promise.allSettled(this.#underWay)
  }

  #locate(envelope: Buffer, context: CredentialContext): { header: EnvelopeHeader; key: string } {
    if (this.keyring.closed) throw new PurserError('Sealed')
    const header = parseEnvelope(envelope, context.credentialId)
    return { header, key: openingKey(envelope, header, this.#inStore(context)) }
  }

  #startOpening(key: string, envelope: Buffer, header: EnvelopeHeader, context: CredentialContext): Opening {
    const result = this.#track(async () => {
      try {
        const plaintext = await this.#openPlaintext(envelope, header, context)
        return this.#handOver(plaintext, context, opening.holders)
      } finally {
        // In one step with the hand-over: whoever comes now would not have been counted among its holders.
        this.#openings.delete(key)
      }
    })
    const opening: Opening = { result, holders: 0 }
    this.#openings.set(key, opening)
    return opening
  }

  #handOver(plaintext: Buffer, context: CredentialContext, holders: number): OpenedCredential {
    try {
      if (this.keyring.closed) throw new PurserError('Sealed')
      const secrets = decodeSecrets(plaintext)
      if (secrets === null) throw decryptionFailed(context.credentialId)
      return new OpenedCredential(plaintext, secrets, holders)
    } catch (error) {
      secureFree(plaintext)
      throw error
    }
  }

  #sealPlaintext(
    context: CredentialContext,
    plaintext: Buffer,
    priority: Priority = 'request',
  ): Promise<Buffer> {
    const header = newEnvelopeHeader(this.keyring.epoch, this.#kdf)
    return this.#withKek(header, context, priority, (kek) =>
      sealEnvelope(kek, header, this.#inStore(context), plaintext),
    )
  }

  #openPlaintext(
    envelope: Buffer,
    header: EnvelopeHeader,
    context: CredentialContext,
    priority: Priority = 'request',
  ): Promise<Buffer> {
    return this.#withKek(header, context, priority, (kek) =>
      openEnvelope(kek, header, this.#inStore(context), envelope),
    )
  }

  /** Derives an envelope's key when it is the user's turn, lends it to `use` and wipes it. */
  #withKek<Result>(
    header: EnvelopeHeader,
    context: CredentialContext,
    priority: Priority,
    use: (kek: Buffer) => Result,
  ): Promise<Result> {
    const { userId } = context
    const derive = async () => {
      const masterKey = this.keyring.masterKey(header.epoch)
      // An epoch whose key this ring does not hold: retired, or never one of this store.
      if (masterKey === null) throw decryptionFailed(context.credentialId)
      const { salt, kdf: params } = header
      const kek = await deriveKek({ masterKey, salt, userId, formatVersion: ENVELOPE_VERSION, params }).catch(
        (error: unknown) => {
          throw this.keyring.closed ? new PurserError('Sealed') : error
        },
      )
      try {
        // The keyring may have been closed while the derivation ran; nothing is given out after that.
        if (this.keyring.closed) throw new PurserError('Sealed')
        return use(kek)
      } finally {
        secureFree(kek)
      }
    }
    return priority === 'request' ? this.#queue.run(userId, derive) : this.#queue.runInBackground(derive)
  }

  /** Runs `work` so that close can wait for its end. */
  #track<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = work()
    const done = () => this.#underWay.delete(result)
    this.#underWay.add(result)
    result.then(done, done)
    return result
  }

  #inStore(context: CredentialContext): EnvelopeContext {
    return { ...context, storeId: this.keyring.storeId }
  }
}

/**
 * Names an opening by the envelope and by all it is bound to: by the credential's id alone, a caller would be handed
 * what another opened in another context. A digest, for an envelope may be long.
 */
function openingKey(envelope: Buffer, header: EnvelopeHeader, context: EnvelopeContext): string {
  const bound = associatedData(header, context)
  // The length first, so that the end of what is bound and the beginning of the envelope cannot be shifted.
  return createHash('sha256').update(uint32(bound.length)).update(bound).update(envelope).digest('base64')
}
