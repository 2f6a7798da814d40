import { type ExitCode, exitCode } from './exit-codes.ts'

/** A command that cannot go on: becomes `purser: message`, `hint: ...` on stderr and an exit code. Never holds a secret. */
export class CliError extends Error {
  override readonly name = 'CliError'
  readonly exitCode: ExitCode
  readonly hint: string | null

  constructor(exit: keyof typeof exitCode, message: string, hint: string | null = null, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.exitCode = exitCode[exit]
    this.hint = hint
  }
}

/** CliError for arguments that cannot be taken. */
export function usageError(message: string, hint: string | null = null): CliError {
  return new CliError('usage', message, hint)
}
