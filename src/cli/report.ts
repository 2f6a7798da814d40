import { CommanderError } from 'commander'
import {
  CallTimeoutError,
  ConnectError,
  ConnectionLostError,
  isPurserError,
  ProtocolError,
  PurserClientError,
  type PurserError,
  TokenError,
} from '../client/index.ts'
import { CliError } from './cli-error.ts'
import { type ExitCode, exitCode } from './exit-codes.ts'
import { describeOverLimit } from './over-limit.ts'
import { visible, visibleJson } from './text/visible.ts'

/** What an error comes to: lines on stderr and an exit code. */
export type Report = {
  readonly exitCode: ExitCode
  readonly message: string
  /** Further lines under the message, one per wrong param. */
  readonly details: readonly string[]
  readonly hint: string | null
  /** The daemon's error as it came; null where it was not the daemon's. */
  readonly answer: { readonly code: number; readonly message: string; readonly data: unknown } | null
}

const exitByType: Readonly<Record<string, keyof typeof exitCode>> = {
  ParseError: 'usage',
  InvalidRequest: 'usage',
  FrameTooLarge: 'usage',
  MethodNotFound: 'usage',
  InvalidParams: 'usage',
  InternalError: 'unforeseen',
  Forbidden: 'forbidden',
  NotFound: 'notFound',
  SpendLimitExceeded: 'overLimit',
}

/** The exit code of a daemon's error. A type this version does not know goes by `retryable`. */
export function exitCodeOf(type: string, retryable: boolean): ExitCode {
  const known = Object.hasOwn(exitByType, type) ? exitByType[type] : undefined
  return exitCode[known ?? (retryable ? 'retryable' : 'refused')]
}

const saidElsewhere = new Set(['type', 'retryable', 'hint', 'issues', 'retryAfterMs'])

/** `resource: user, field: null` of the error's data, as far as it is not said elsewhere. */
function describeData(data: Readonly<Record<string, unknown>>): string {
  const parts = Object.entries(data)
    .filter(([name, value]) => !saidElsewhere.has(name) && value !== null && typeof value !== 'object')
    .map(([name, value]) => `${name}: ${String(value)}`)
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`
}

function describeIssues(data: Readonly<Record<string, unknown>>): string[] {
  const issues = Array.isArray(data['issues']) ? (data['issues'] as unknown[]) : []
  return issues.map((issue) => {
    const { path, message } = issue as { path?: unknown; message?: unknown }
    return path === '' ? String(message) : `${String(path)}: ${String(message)}`
  })
}

function reportAnswer(error: PurserError): Report {
  const data: Readonly<Record<string, unknown>> = error.data
  const issues = describeIssues(data)
  const overLimit = error.type === 'SpendLimitExceeded' ? describeOverLimit(data) : null
  const wait = error.retryAfterMs === null ? '' : `try again in ${Math.ceil(error.retryAfterMs / 1000)} s; `
  return {
    exitCode: exitCodeOf(error.type, error.retryable),
    message: overLimit?.message ?? error.message + describeData(data),
    details: issues,
    // The hint for InvalidParams is where to find the issues, which stand right above it.
    hint: overLimit?.hint ?? (issues.length > 0 ? null : wait + error.hint),
    answer: { code: error.code, message: error.message, data: error.data },
  }
}

function reportClientError(error: PurserClientError): Report {
  const unreachable =
    error instanceof ConnectError || error instanceof ConnectionLostError || error instanceof ProtocolError
  const code =
    error instanceof CallTimeoutError
      ? 'retryable'
      : unreachable
        ? 'unreachable'
        : error instanceof TokenError
          ? 'noInput'
          : 'unforeseen'
  const hint = error.hint
    .replace('the option socketPath', '--socket')
    .replace('a longer timeoutMs', 'a longer --timeout')
  return { exitCode: exitCode[code], message: error.message, details: [], hint, answer: null }
}

/** Null for what commander ends with after it has printed help or the version. */
function reportUsage(error: CommanderError): Report | null {
  if (error.exitCode === 0) return null
  // Nothing but a group of commands was named: its help stands on stderr already.
  if (error.code === 'commander.help')
    return { exitCode: exitCode.usage, message: 'which command?', details: [], hint: null, answer: null }
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n')
  const hint = suggestion?.replace(/^\(|\)$/g, '') ?? 'see `purser --help`'
  // What stood after `=` may be a secret meant for another option.
  return { exitCode: exitCode.usage, message: first.replace(/=[^']*'/, "'"), details: [], hint, answer: null }
}

/** What `error` comes to; null where nothing went wrong (help was asked for). */
export function reportOf(error: unknown): Report | null {
  if (error instanceof CommanderError) return reportUsage(error)
  if (isPurserError(error)) return reportAnswer(error)
  if (error instanceof PurserClientError) return reportClientError(error)
  const { message, hint } =
    error instanceof CliError ? error : { message: describeUnforeseen(error), hint: null }
  const code = error instanceof CliError ? error.exitCode : exitCode.unforeseen
  return { exitCode: code, message, details: [], hint, answer: null }
}

function describeUnforeseen(error: unknown): string {
  if (!(error instanceof Error)) return 'unforeseen error'
  // Messages of the system (`EIO: i/o error, write`) hold no params; others might quote what was being read.
  const { code } = error as NodeJS.ErrnoException
  return code === undefined ? `unforeseen error (${error.name})` : `unforeseen error (${code})`
}

/** The report as text: `purser: ...`, details, `hint: ...`, and under --json the daemon's error as one line more. */
export function formatReport(report: Report, json: boolean): string {
  const lines = [
    `purser: ${visible(report.message)}`,
    ...report.details.map((detail) => `  ${visible(detail)}`),
    ...(report.hint === null ? [] : [`hint: ${visible(report.hint)}`]),
    ...(json && report.answer !== null ? [visibleJson({ error: report.answer })] : []),
  ]
  return lines.map((line) => `${line}\n`).join('')
}
