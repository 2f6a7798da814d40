/**
 * Why a key service gave no key. `message` and `hint` are chosen here and hold no secret and nothing a server wrote,
 * which could be the token it was sent.
 */
export class SourceError extends Error {
  override readonly name = 'SourceError'
  readonly hint: string
  /** Whether the same request may succeed a moment later. */
  readonly retry: boolean
  /** `config` where only a change of what is configured helps, else `masterKey`. */
  readonly exit: 'masterKey' | 'config'

  constructor(
    message: string,
    hint: string,
    options: { retry?: boolean; exit?: 'masterKey' | 'config'; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.hint = hint
    this.retry = options.retry ?? false
    this.exit = options.exit ?? 'masterKey'
  }
}
