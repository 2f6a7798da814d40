import { expect } from 'vitest'
import { StartPurserError, startPurser } from '../../../src/testing/index.ts'

/** How a daemon is started on a key source. */
export type Start = { readonly env?: Record<string, string>; readonly args?: readonly string[] }

/** A daemon that has its key from nowhere but where `env` and `args` say. */
export function start(dataDirectory: string, { env, args }: Start, more: Record<string, string> = {}) {
  return startPurser({ fastKdf: true, dataDirectory, masterKey: null, env: { ...env, ...more }, args })
}

/** The error of a start that ends before it is ready, and its only line on stderr. */
export async function refused(
  starting: Promise<unknown>,
): Promise<{ exitCode: number | null; line: string }> {
  const error = await starting.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(StartPurserError)
  const { exitCode, logs } = error as StartPurserError
  const lines = logs.filter((line) => !line.startsWith('{'))
  expect(lines).toHaveLength(1)
  return { exitCode, line: lines[0]! }
}
