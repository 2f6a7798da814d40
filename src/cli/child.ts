import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { CliError } from './cli-error.ts'
import { systemReason } from './input/bounded.ts'

/** Sent to purser by a service manager, `kill` or a closing terminal: the child gets them too. */
const forwarded = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const
/** Keys of the terminal send these to the whole foreground group, so that the child has had them already. */
const fromTerminal = ['SIGINT', 'SIGQUIT'] as const

/** Whether the process of this /proc/PID/stat belongs to the foreground process group of a terminal. */
export function isForeground(stat: string): boolean {
  // The name in parentheses may hold anything, so fields are counted after the last one: state ppid pgrp session tty tpgid.
  const [, , group, , , terminalGroup] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return group !== undefined && group === terminalGroup
}

function readStat(): string {
  try {
    return readFileSync('/proc/self/stat', 'utf8')
  } catch {
    return ''
  }
}

/** Passes signals on until the answered function is called; until then none of them ends purser. */
function forwardSignals(child: ChildProcess): () => void {
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal)
  const passUnlessTyped = (signal: NodeJS.Signals): void => {
    if (!isForeground(readStat())) child.kill(signal)
  }
  for (const signal of forwarded) process.on(signal, pass)
  for (const signal of fromTerminal) process.on(signal, passUnlessTyped)
  return () => {
    for (const signal of forwarded) process.off(signal, pass)
    for (const signal of fromTerminal) process.off(signal, passUnlessTyped)
  }
}

/** The exit code a shell would show: the child's own, or 128+n where signal n ended it. */
export function childExitCode(code: number | null, signal: NodeJS.Signals | null): number {
  return signal === null ? (code ?? 0) : 128 + constants.signals[signal]
}

/**
 * Runs a command on this process's terminal until it ends; answers its exit code. Throws CliError `commandNotFound`
 * (127) or `notExecutable` (126).
 */
export async function runChild(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<number> {
  const child = spawn(command, args, { stdio: 'inherit', env })
  const stopForwarding = forwardSignals(child)
  try {
    return await new Promise<number>((resolve, reject) => {
      child.once('error', (cause: NodeJS.ErrnoException) => reject(spawnError(command, cause)))
      child.once('exit', (code, signal) => resolve(childExitCode(code, signal)))
    })
  } finally {
    stopForwarding()
  }
}

function spawnError(command: string, cause: NodeJS.ErrnoException): CliError {
  if (cause.code === 'ENOENT') return new CliError('commandNotFound', `${command}: command not found`)
  return new CliError('notExecutable', `${command}: ${systemReason(cause)}`, null, cause)
}
