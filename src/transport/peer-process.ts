/** What /proc tells of a caller's process. Information for the audit log, never identity: it can exec anything later. */

import { readFileSync } from 'node:fs'
import { closeFd, isRunning, peerPidfd } from './libc.ts'

/** The name a process gives itself and the systemd unit it runs in; null where that cannot be told. */
export type ProcessNames = { readonly comm: string | null; readonly unit: string | null }

const unknown: ProcessNames = { comm: null, unit: null }

/** Of /proc/pid/cgroup; the kernel bounds neither the number nor the length of its lines. */
const charactersMax = 4096
/** systemd's own bound on the name of a unit. */
const unitCharactersMax = 255

/**
 * comm and unit of process `pid`, which connected to the socket `fd`. Read between two checks that it is still that
 * process, so that nobody is written down under the name of whoever got his pid. Takes some 20 us. `pidfd` is closed.
 */
export function peerProcess(fd: number, pid: number, pidfd = peerPidfd(fd)): ProcessNames {
  if (pidfd === 'gone') return unknown
  if (pidfd === null) return pid > 0 ? namesWhile(pid, isSameSince(pid)) : unknown
  try {
    // The pid is 0 where the daemon's namespace cannot see it.
    return pid > 0 ? namesWhile(pid, () => isRunning(pidfd)) : unknown
  } finally {
    closeFd(pidfd)
  }
}

function namesWhile(pid: number, isStill: () => boolean): ProcessNames {
  if (!isStill()) return unknown
  const comm = readProc(pid, 'comm')?.replace(/\n$/, '') || null
  const unit = unitOf(readProc(pid, 'cgroup'))
  return isStill() ? { comm, unit } : unknown
}

/** Without a pidfd: whether the process of this pid is the one it was when this was called, by its start time. */
function isSameSince(pid: number): () => boolean {
  const startedAt = startTime(pid)
  return () => startedAt !== null && startTime(pid) === startedAt
}

/** Field 22 of /proc/pid/stat, in clock ticks since boot; comm, the second, may hold spaces and parentheses. */
function startTime(pid: number): string | null {
  const stat = readProc(pid, 'stat')
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
}

function readProc(pid: number, name: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8').slice(0, charactersMax)
  } catch {
    // It is gone, or hidden from the daemon (hidepid, ProtectProc).
    return null
  }
}

/** The systemd unit in the text of /proc/pid/cgroup: the last part of its path that names a service or a scope. */
export function unitOf(cgroup: string | null): string | null {
  if (cgroup === null) return null
  // cgroup v2 (`0::/path`), or on a host with both systemd's own hierarchy of v1.
  for (const [, path] of cgroup.matchAll(/^\d+:(?:name=systemd)?:(.*)$/gm)) {
    const unit = path!.split('/').findLast((part) => /\.(service|scope)$/.test(part))
    if (unit !== undefined) return unit.slice(0, unitCharactersMax)
  }
  return null
}
