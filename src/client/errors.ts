import type { ErrorType, ParamIssue } from '../errors.ts'
import type { Time, Usd } from './types.ts'

export type { ErrorType, ParamIssue }

type Nothing = Readonly<Record<never, never>>

/** What `data` holds for each error type, beside `type`, `retryable` and `hint`, which are properties of the error. */
export type ErrorData = {
  ParseError: Nothing
  InvalidRequest: Nothing
  FrameTooLarge: Nothing
  MethodNotFound: Nothing
  InvalidParams: { readonly issues: readonly ParamIssue[] }
  /** `errorId` is also in the daemon's log. */
  InternalError: { readonly errorId: string }
  /** `scope`: the one that is missing, where one would help. */
  Forbidden: { readonly scope: string | null }
  RateLimited: { readonly retryAfterMs: number; readonly limit: number; readonly windowMs: number }
  Overloaded: { readonly retryAfterMs: number }
  Sealed: Nothing
  Frozen: { readonly reason: string; readonly since: Time }
  WrongMasterKey: { readonly retryAfterMs: number }
  NotFound: { readonly resource: string }
  Conflict: { readonly resource: string; readonly field: string | null }
  CredentialRevoked: { readonly revokedAt: Time }
  CredentialExpired: { readonly expiredAt: Time }
  DecryptionFailed: { readonly credentialId: number }
  SpendLimitExceeded: {
    readonly level: 'per_trade' | 'credential_daily' | 'user_daily' | 'exposure'
    readonly limitUsd: Usd
    readonly usedUsd: Usd
    readonly requestedUsd: Usd
    readonly availableUsd: Usd
    /** Null for `per_trade` and `exposure`. */
    readonly resetsAt: Time | null
  }
  ReservationClosed: { readonly state: 'captured' | 'voided' | 'expired' }
  SigningRefused: { readonly rule: string }
  StorageUnavailable: Nothing
}

/** Messages end up in logs; purser's own are far shorter. */
const messageCharsMax = 1024

class AnswerError<T extends ErrorType> extends Error {
  override readonly name = 'PurserError'
  /** Which error: narrow by it, then `data` is typed. A newer daemon may answer a type not listed here. */
  readonly type: T
  /** The number on the wire; many-to-one with `type`. */
  readonly code: number
  readonly data: ErrorData[T]
  /** The same request may succeed later. */
  readonly retryable: boolean
  /** How long to wait before trying again, where the daemon said so. */
  readonly retryAfterMs: number | null
  /** What to do about it, in a sentence fit for a log or a terminal. */
  readonly hint: string

  constructor(
    type: T,
    code: number,
    message: string,
    data: ErrorData[T] & Readonly<Record<string, unknown>>,
  ) {
    super(message.slice(0, messageCharsMax))
    this.type = type
    this.code = code
    this.data = data
    this.retryable = data['retryable'] === true
    this.retryAfterMs = typeof data['retryAfterMs'] === 'number' ? data['retryAfterMs'] : null
    this.hint = typeof data['hint'] === 'string' ? data['hint'] : ''
  }
}

/** The PurserError of one type: `PurserErrorOf<'SpendLimitExceeded'>`. */
export type PurserErrorOf<T extends ErrorType> = AnswerError<T>

/**
 * The daemon answered with an error. A union over `type`, so that comparing `type` narrows `data`:
 *
 *     catch (error) {
 *       if (error instanceof PurserError && error.type === 'SpendLimitExceeded') wait(error.data.resetsAt)
 *     }
 */
export type PurserError = { [T in ErrorType]: AnswerError<T> }[ErrorType]

type PurserErrorClass = {
  new <T extends ErrorType>(
    type: T,
    code: number,
    message: string,
    data: ErrorData[T] & Readonly<Record<string, unknown>>,
  ): PurserErrorOf<T>
  readonly prototype: PurserError
}

export const PurserError: PurserErrorClass = AnswerError as PurserErrorClass

/** Whether `error` is the daemon's answer, and of that type where one is given. */
export function isPurserError(error: unknown): error is PurserError
export function isPurserError<T extends ErrorType>(error: unknown, type: T): error is PurserErrorOf<T>
export function isPurserError(error: unknown, type?: ErrorType): boolean {
  return error instanceof AnswerError && (type === undefined || error.type === type)
}

/** Base of every error that arises on this side of the socket. `hint` says what to do. */
export class PurserClientError extends Error {
  override readonly name: string = 'PurserClientError'
  readonly hint: string

  constructor(message: string, hint: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.hint = hint
  }
}

/** The token file cannot be used: not there, open to others, or without a token. */
export class TokenError extends PurserClientError {
  override readonly name = 'TokenError'
}

/** No connection could be made. `code` is the system's (`ENOENT`, `EACCES`, ...) or `ETIMEDOUT`. */
export class ConnectError extends PurserClientError {
  override readonly name = 'ConnectError'
  readonly code: string
  readonly socketPath: string

  constructor(code: string, socketPath: string, message: string, hint: string, cause?: unknown) {
    super(message, hint, cause)
    this.code = code
    this.socketPath = socketPath
  }
}

/**
 * The connection broke after the request was sent and before its answer came: whether it was carried out is not
 * known. Repeat it with the same idempotencyKey or intentId, or look first.
 */
export class ConnectionLostError extends PurserClientError {
  override readonly name = 'ConnectionLostError'
  readonly method: string

  constructor(method: string, cause?: unknown) {
    super(
      `connection lost before ${method} was answered`,
      'it may have been carried out: repeat it with the same idempotencyKey or intentId, or look before repeating',
      cause,
    )
    this.method = method
  }
}

/**
 * No answer within the call's `timeoutMs`; the connection stays. `sent: false` means that the request never left
 * (nothing was carried out), `cause` then says why; `sent: true` leaves that open, as for ConnectionLostError.
 */
export class CallTimeoutError extends PurserClientError {
  override readonly name = 'CallTimeoutError'
  readonly method: string
  readonly timeoutMs: number
  readonly sent: boolean

  constructor(method: string, timeoutMs: number, sent: boolean, cause?: unknown) {
    super(
      sent
        ? `${method} was not answered within ${timeoutMs} ms`
        : `${method} could not be sent within ${timeoutMs} ms`,
      sent
        ? 'it may still be carried out: repeat it with the same idempotencyKey or intentId, or look before repeating'
        : cause instanceof PurserClientError
          ? cause.hint
          : 'fewer calls at once, or a longer timeoutMs',
      cause,
    )
    this.method = method
    this.timeoutMs = timeoutMs
    this.sent = sent
  }
}

/** More calls are waiting for a place on the connection than `maxWaiting` allows. Nothing was sent. */
export class QueueFullError extends PurserClientError {
  override readonly name = 'QueueFullError'

  constructor(method: string, maxWaiting: number) {
    super(
      `${method} was not sent: ${maxWaiting} calls are waiting already`,
      'await answers before making more calls',
    )
  }
}

/** The client was closed. Nothing was sent. */
export class ClientClosedError extends PurserClientError {
  override readonly name = 'ClientClosedError'

  constructor(method: string, cause?: unknown) {
    super(`${method} was not sent: the client is closed`, 'connect again', cause)
  }
}

/** What came over the socket is not the protocol; everything outstanding is rejected and the connection closed. */
export class ProtocolError extends PurserClientError {
  override readonly name = 'ProtocolError'

  constructor(message: string, cause?: unknown) {
    super(message, 'is it purserd that listens on this socket?', cause)
  }
}
