import { type ChildProcess, spawn } from 'node:child_process'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'

/** The command as it is built, before the tests as all of purser: run from source it takes three times as long. */
export const cliEntry = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

export type CliResult = {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export type CliOptions = {
  readonly env?: Readonly<Record<string, string>>
  /** What stands on stdin; absent: stdin is empty. */
  readonly input?: string
}

/** Starts `purser ARGS` with an environment that holds PATH, HOME and `env` alone. */
export function startCli(args: readonly string[], options: CliOptions = {}): ChildProcess {
  return spawn(process.execPath, [cliEntry, ...args], {
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', HOME: tmpdir(), ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

/** Runs `purser ARGS` to its end. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return finish(startCli(args, options), options.input ?? '')
}

/** Sends `input`, closes stdin and waits for the end. */
export function finish(child: ChildProcess, input = ''): Promise<CliResult> {
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin?.on('error', () => undefined)
  child.stdin?.end(input)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}
