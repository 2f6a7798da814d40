import type { Door } from '../access/identity.ts'
import type { Config } from '../config.ts'
import { StartError } from '../errors.ts'
import type { Listener } from '../transport/listener.ts'
import type { ActivatedSocket } from '../transport/systemd.ts'

/** StartError 78 where systemd did not hand over the admin socket that is configured. */
export function checkHanded(config: Config, handed: readonly ActivatedSocket[]): void {
  if (handed.length === 0) return
  if (config.socket.adminPath === null || hasAdminSocket(handed)) return
  throw new StartError(
    'config',
    'an admin socket is configured but the socket unit did not hand one over',
    'add a socket with FileDescriptorName=purser-admin, or take --admin-socket away',
  )
}

/** Whether one of the sockets that systemd handed over is the admins'. */
export function hasAdminSocket(handed: readonly ActivatedSocket[]): boolean {
  return handed.some(({ name }) => name === 'purser-admin')
}

/** Listens on what was handed over, else on the configured paths; answers where clients find it. StartError. */
export async function openSockets(
  config: Config,
  handed: readonly ActivatedSocket[],
  listener: Listener,
): Promise<{ path: string; adminPath: string | null }> {
  try {
    return await listen(config, handed, listener)
  } catch (error) {
    // One of two sockets may listen already, and would keep the process alive.
    await listener.drain(0)
    throw error
  }
}

async function listen(
  config: Config,
  handed: readonly ActivatedSocket[],
  listener: Listener,
): Promise<{ path: string; adminPath: string | null }> {
  if (handed.length > 0) {
    for (const { fd, name } of handed) await listener.listen({ fd }, doorOf(name))
    const pathOf = (door: Door) => handed.find(({ name }) => doorOf(name) === door)?.path ?? null
    return { path: pathOf('main') ?? config.socket.path, adminPath: pathOf('admin') }
  }
  await listener.listen({ path: config.socket.path, mode: config.socket.mode }, 'main')
  if (config.socket.adminPath !== null)
    await listener.listen({ path: config.socket.adminPath, mode: 0o600 }, 'admin')
  return { path: config.socket.path, adminPath: config.socket.adminPath }
}

function doorOf(name: ActivatedSocket['name']): Door {
  return name === 'purser-admin' ? 'admin' : 'main'
}
