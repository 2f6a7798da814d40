import { statSync } from 'node:fs'
import { dirname } from 'node:path'
import { ConnectError } from './errors.ts'
import type { SocketPath } from './socket-path.ts'

/** Says why no connection could be made, and what to do, from the error of `connect(2)`. */
export function toConnectError(error: unknown, { path, tried }: SocketPath): ConnectError {
  const code = (error as NodeJS.ErrnoException | null)?.code ?? 'UNKNOWN'
  const [message, hint] = explain(code, path, tried)
  return new ConnectError(code, path, message, hint, error)
}

function explain(code: string, path: string, tried: readonly string[]): [message: string, hint: string] {
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return [
        `no socket at ${tried.join(' nor ')}`,
        'is purserd running? start it, or name its socket by PURSER_SOCKET or the option socketPath',
      ]
    case 'ECONNREFUSED':
      return [`nobody listens at ${path}`, 'is purserd running? the socket is one that it left behind']
    case 'EACCES':
    case 'EPERM':
      return [
        `not permitted to use ${path}`,
        `join ${owningGroup(path)} and log in again, or ask the operator about socket.mode`,
      ]
    case 'EAGAIN':
      return [`${path} takes no more connections just now`, 'purserd is busy or stopped; try again']
    case 'ENAMETOOLONG':
      return [`the path ${path} is too long for a Unix socket`, 'choose one of at most 107 bytes']
    default:
      return [`cannot connect to ${path} (${code})`, 'is purserd running, and is this its socket?']
  }
}

/** The group that opens the way: the socket's, or its directory's where that is what bars it. */
function owningGroup(path: string): string {
  for (const place of [path, dirname(path)]) {
    try {
      return `the group with gid ${statSync(place).gid}, which owns ${place},`
    } catch {
      // Not to be seen from here: the directory above tells.
    }
  }
  return "the socket's group"
}
