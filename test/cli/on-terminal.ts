import { execFile, spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { cliEntry } from './run-cli.ts'

const script = fileURLToPath(new URL('./on-terminal.py', import.meta.url))

/** Why no pseudo-terminal can be had; null where one can. */
export const noPty: string | null =
  spawnSync('python3', ['-c', 'import pty, termios']).status === 0
    ? null
    : 'python3 is not there to make a pseudo-terminal'

export type PtyResult = {
  readonly output: string
  readonly code: number | null
  readonly signal: string | null
  readonly echo: boolean
  readonly canonical: boolean
}

/** What to wait for, and what to type (or which signal to send, or which size to give the terminal) then. */
export type PtyStep = readonly [
  waitFor: string,
  send: string | { readonly signal: string } | { readonly resize: readonly [columns: number, rows: number] },
]

/** Runs `purser ARGS` on a pseudo-terminal. */
export async function runOnPty(
  args: readonly string[],
  steps: readonly PtyStep[],
  env: Readonly<Record<string, string>> = {},
): Promise<PtyResult> {
  const { stdout } = await promisify(execFile)(
    'python3',
    [script, JSON.stringify(steps), process.execPath, cliEntry, ...args],
    { env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: tmpdir(), TERM: 'xterm', ...env } },
  )
  return JSON.parse(stdout) as PtyResult
}
