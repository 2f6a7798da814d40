/**
 * Every error purser answers or stops with. This file is the only place where codes exist; a test holds it
 * against the README's table both ways. A number once used is never given to something else.
 */

type ErrorKind = {
  readonly code: number
  readonly retryable: boolean
  readonly message: string
  readonly hint: string
}

/** Wire errors, protocol section 4. `message` is the default text, `hint` says what to do. */
export const errorTable = {
  ParseError: {
    code: -32700,
    retryable: false,
    message: 'not valid JSON',
    hint: 'send one UTF-8 JSON-RPC 2.0 object or batch per line',
  },
  InvalidRequest: {
    code: -32600,
    retryable: false,
    message: 'not a JSON-RPC 2.0 request',
    hint: 'send {"jsonrpc":"2.0","id":1,"method":"...","params":{...}}',
  },
  FrameTooLarge: {
    code: -32600,
    retryable: false,
    message: 'line longer than 65536 bytes',
    hint: 'split the batch; a line holds at most 65536 bytes',
  },
  MethodNotFound: {
    code: -32601,
    retryable: false,
    message: 'no such method',
    hint: 'rpc.discover lists every method',
  },
  InvalidParams: {
    code: -32602,
    retryable: false,
    message: 'invalid params',
    hint: 'see data.issues; rpc.discover has the schema',
  },
  InternalError: {
    code: -32603,
    retryable: false,
    message: 'internal error',
    hint: 'look for errorId in the log of the daemon',
  },
  Forbidden: {
    code: 1001,
    retryable: false,
    message: 'not allowed',
    hint: 'ask the operator for a client entry with this scope and user',
  },
  RateLimited: {
    code: 1002,
    retryable: true,
    message: 'too many decryptions',
    hint: 'wait retryAfterMs; keep what you retrieved instead of asking again',
  },
  Overloaded: { code: 1003, retryable: true, message: 'too busy', hint: 'wait retryAfterMs and try again' },
  Sealed: {
    code: 1004,
    retryable: true,
    message: 'the daemon is sealed',
    hint: 'an operator unseals it with `purser unseal`',
  },
  Frozen: {
    code: 1005,
    retryable: true,
    message: 'frozen',
    hint: 'an operator unfreezes with `purser unfreeze`',
  },
  WrongMasterKey: {
    code: 1006,
    retryable: true,
    message: 'this key does not open the store',
    hint: 'use the master key the store was made with',
  },
  NotFound: {
    code: 2001,
    retryable: false,
    message: 'not found',
    hint: 'check the id and the user it belongs to',
  },
  Conflict: {
    code: 2002,
    retryable: false,
    message: 'conflicts with what is stored',
    hint: 'see data.resource and data.field',
  },
  CredentialRevoked: {
    code: 2003,
    retryable: false,
    message: 'the credential is revoked',
    hint: 'name another credential or store a new one',
  },
  CredentialExpired: {
    code: 2004,
    retryable: false,
    message: 'the credential has expired',
    hint: 'store a new one, or change expiresAt with credentials.update',
  },
  DecryptionFailed: {
    code: 2005,
    retryable: false,
    message: 'the stored envelope does not open',
    hint: 'the store was altered or damaged; restore a backup or replace the credential',
  },
  SpendLimitExceeded: {
    code: 3001,
    retryable: false,
    message: 'over the limit',
    hint: 'see data.level and data.availableUsd',
  },
  ReservationClosed: {
    code: 3002,
    retryable: false,
    message: 'the reservation is closed',
    hint: 'make a new reservation',
  },
  SigningRefused: { code: 4001, retryable: false, message: 'signing refused', hint: 'see data.rule' },
  StorageUnavailable: {
    code: 5001,
    retryable: true,
    message: 'the store cannot be written',
    hint: 'free disk space or repair the store, then repeat with the same id',
  },
} as const satisfies Record<string, ErrorKind>

export type ErrorType = keyof typeof errorTable

/** One thing wrong with params. `path` is dotted (`limits.dailyUsd`); `message` never holds a value of a secret member. */
export type ParamIssue = { readonly path: string; readonly message: string }

/** An error that reaches the caller as it is: its text and data are chosen, never taken from a cause. */
export class PurserError extends Error {
  override readonly name = 'PurserError'
  readonly type: ErrorType
  readonly data: Readonly<Record<string, unknown>>
  readonly hint: string

  /** `data` is what section 4 of the protocol lists for `type`, beside type, retryable and hint, which are added. */
  constructor(
    type: ErrorType,
    data: Readonly<Record<string, unknown>> = {},
    text: { message?: string; hint?: string; cause?: unknown } = {},
  ) {
    super(
      text.message ?? errorTable[type].message,
      text.cause === undefined ? undefined : { cause: text.cause },
    )
    this.type = type
    this.data = data
    this.hint = text.hint ?? errorTable[type].hint
  }

  get code(): number {
    return errorTable[this.type].code
  }
}

/** InvalidParams for one path. */
export function invalidParams(path: string, message: string): PurserError {
  return new PurserError('InvalidParams', { issues: [{ path, message }] })
}

/** Exit codes of `purserd`, protocol section 2. */
export const exitCodes = {
  ok: 0,
  usage: 64,
  storeUnusable: 69,
  unforeseen: 70,
  masterKey: 77,
  config: 78,
} as const

/** A start that cannot go on: becomes one line on stderr (message, then what to do) and an exit code. No stack trace. */
export class StartError extends Error {
  override readonly name = 'StartError'
  readonly exitCode: number
  readonly hint: string

  constructor(exit: keyof typeof exitCodes, message: string, hint: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.exitCode = exitCodes[exit]
    this.hint = hint
  }
}
