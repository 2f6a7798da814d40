import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import type { Socket } from 'node:net'

/**
 * Reads pids until its input ends, which happens at the latest when the parent is gone, however it went; then kills
 * the last one, if that process still names our directory in its arguments (a pid may have passed to another
 * process), waits for it to be gone, and removes the directory. An empty line means: nothing to kill.
 */
const script = `is_ours() {
  case $(tr '\\0' ' ' <"/proc/$pid/cmdline") in *"$1"*) return 0 ;; esac
  return 1
}
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ] && is_ours "$1"; then
  kill -KILL "$pid"
  tries=0
  while is_ours "$1" && [ "$tries" -lt 100 ]; do sleep 0.02; tries=$((tries + 1)); done
fi
rm -rf -- "$1"`

const guards = new Set<Guard>()

/**
 * Keeps a daemon from outliving the process that started it, and its directory with it: an 'exit' handler for
 * every orderly end, and for all others (SIGKILL, a crash, a worker thread ended from outside) a shell of its own
 * session that waits for the pipe from this process to break. Linux's parent-death signal would have to be set in
 * the daemon and follows the thread that forked, not the process.
 */
export class Guard {
  readonly #directory: string
  readonly #shell: ChildProcess
  #pid: number | null = null

  constructor(directory: string) {
    this.#directory = directory
    this.#shell = spawn('/bin/sh', ['-c', script, 'purser-test-guard', directory], {
      // A session of its own: Ctrl-C ends the test run and the daemon, and must not end the one who cleans up.
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
      env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' },
    })
    this.#shell.on('error', () => {})
    this.#shell.stdin?.on('error', () => {})
    this.#shell.unref()
    ;(this.#shell.stdin as Socket).unref()
    if (guards.size === 0) process.on('exit', endAll)
    guards.add(this)
  }

  /** From now on this process is the one to kill; null for none. Null must come before its pid can pass on. */
  watch(pid: number | null): void {
    this.#pid = pid
    this.#shell.stdin?.write(`${pid ?? ''}\n`)
  }

  /** Nothing is left to guard: the shell ends. */
  release(): void {
    this.watch(null)
    this.#shell.stdin?.end()
    guards.delete(this)
    if (guards.size === 0) process.off('exit', endAll)
  }

  /** For the 'exit' handler, which may only do what is synchronous. */
  endNow(): void {
    if (this.#pid !== null) {
      try {
        process.kill(this.#pid, 'SIGKILL')
      } catch {
        // Gone already.
      }
    }
    // The shell does the same once the pipe breaks; a file the dying daemon still makes here is its to remove.
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 3 })
  }
}

function endAll(): void {
  for (const guard of guards) guard.endNow()
}
