/** What systemd hands a service and wants to hear from it: sockets, readiness, signs of life. */

import { StartError } from '../errors.ts'
import { boundSocketPath, isListeningUnixSocket, sendDatagram, setCloseOnExec } from './libc.ts'

/** The environment as a process has it: process.env, or a copy in tests. */
type Environment = Record<string, string | undefined>

/** Names a socket unit gives its socket by FileDescriptorName=. */
export type ActivatedSocketName = 'purser' | 'purser-admin'

/** A listening socket systemd has made. `path` is where it is bound, as a client sees it. */
export type ActivatedSocket = {
  readonly fd: number
  readonly name: ActivatedSocketName
  readonly path: string
}

const firstActivatedFd = 3
const activationVariables = ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PIDFDID'] as const

/**
 * The sockets systemd handed to this process, none where it was not activated. The variables are taken out of `env`,
 * so that nothing this process starts takes them for its own, and the descriptors are closed on exec.
 *
 * Throws StartError `config` where what was handed is not exactly what purser serves: one listening Unix stream
 * socket named `purser` and at most one named `purser-admin`. A socket without a name is refused like one of an
 * unknown name: who may be an admin depends on it.
 */
export function activatedSockets(env: Environment, pid: number): ActivatedSocket[] {
  const { LISTEN_PID: listenPid, LISTEN_FDS: listenFds, LISTEN_FDNAMES: listenNames } = env
  for (const variable of activationVariables) delete env[variable]
  // Meant for another process, from which this one has only inherited the variables.
  if (listenFds === undefined || listenPid !== String(pid)) return []

  const count = parsePositive(listenFds)
  if (count === null) {
    throw new StartError('config', 'LISTEN_FDS is not a number', 'start purserd by its socket unit')
  }
  if (count > 2) throw misfit(`${count} sockets were handed over`)
  const names = listenNames === undefined ? [] : listenNames.split(':')
  const sockets = Array.from({ length: count }, (_, index) =>
    adopt(firstActivatedFd + index, names[index] ?? ''),
  )
  const served = sockets.filter((socket) => socket.name === 'purser').length
  if (served === 0) throw misfit('no socket named purser was handed over')
  if (served > 1) throw misfit('two sockets named purser were handed over')
  return sockets
}

function adopt(fd: number, name: string): ActivatedSocket {
  if (name !== 'purser' && name !== 'purser-admin') {
    throw misfit(`descriptor ${fd} is named ${JSON.stringify(name.slice(0, 64))}`)
  }
  if (!isListeningUnixSocket(fd))
    throw misfit(`descriptor ${fd} (${name}) is no listening Unix stream socket`)
  setCloseOnExec(fd)
  return { fd, name, path: boundSocketPath(fd) }
}

function misfit(what: string): StartError {
  return new StartError(
    'config',
    `socket activation: ${what}`,
    'give one ListenStream=/path with FileDescriptorName=purser and at most one with FileDescriptorName=purser-admin, Accept=no',
  )
}

function parsePositive(text: string): number | null {
  return /^[1-9][0-9]{0,14}$/.test(text) ? Number(text) : null
}

/** What can be told to systemd, see sd_notify(3). `status` is free text for `systemctl status`, never a secret. */
export type ServiceState = {
  readonly ready?: true
  readonly stopping?: true
  readonly watchdog?: true
  readonly status?: string
  readonly mainPid?: number
}

/** What became of a message to systemd. Not sent is no error of the daemon: outside systemd nobody listens. */
export type NotifyOutcome = { readonly sent: true } | { readonly sent: false; readonly reason: string }

/** A longer status says nothing more; the kernel would take some 200 KiB in one datagram. */
const statusCharactersMax = 256

/**
 * Tells systemd (NOTIFY_SOCKET in `env`) about the daemon. Never throws and never waits: a timer that pings the
 * watchdog must not take the daemon down with it. After a READY=1 that was not sent systemd ends the start itself.
 */
export function notify(env: Environment, state: ServiceState): NotifyOutcome {
  const path = env['NOTIFY_SOCKET']
  if (path === undefined || path === '') return { sent: false, reason: 'NOTIFY_SOCKET is not set' }
  try {
    sendDatagram(path, Buffer.from(notifyMessage(state)))
    return { sent: true }
  } catch (error) {
    return { sent: false, reason: error instanceof Error ? error.message : 'unknown reason' }
  }
}

function notifyMessage(state: ServiceState): string {
  const lines: string[] = []
  if (state.mainPid !== undefined) lines.push(`MAINPID=${state.mainPid}`)
  if (state.ready) lines.push('READY=1')
  if (state.stopping) lines.push('STOPPING=1')
  if (state.watchdog) lines.push('WATCHDOG=1')
  // A line break would start a second variable.
  if (state.status !== undefined) {
    lines.push(`STATUS=${state.status.slice(0, statusCharactersMax).replace(/[\r\n]+/g, ' ')}`)
  }
  return lines.join('\n')
}

/**
 * How often, in ms, to send `{ watchdog: true }`: half of what systemd waits for before it kills the daemon. Null
 * where no watchdog is set for this process. Throws StartError `config` for a value systemd would not write.
 */
export function watchdogIntervalMs(env: Environment, pid: number): number | null {
  const { WATCHDOG_USEC: timeoutText, WATCHDOG_PID: watchdogPid } = env
  if (timeoutText === undefined) return null
  if (watchdogPid !== undefined && watchdogPid !== String(pid)) return null
  const timeoutMicroseconds = parsePositive(timeoutText)
  if (timeoutMicroseconds === null) {
    throw new StartError(
      'config',
      'WATCHDOG_USEC is not a number of microseconds',
      'unset it or set WatchdogSec=',
    )
  }
  return Math.max(1, Math.floor(timeoutMicroseconds / 2000))
}
