import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '../..')
const installed = '/usr/lib/purser'
const dropIns = ['jit', 'network', 'admin'] as const
let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-units-'))
})

afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** The shipped units with `on` of the drop-ins turned on, as a copy whose executable exists. */
function unitDirectory(on: readonly string[]): string {
  const at = join(directory, on.join('-') || 'plain')
  cpSync(join(root, 'systemd'), at, { recursive: true })
  cpSync(join(root, 'bin'), join(at, 'bin'), { recursive: true })
  const service = join(at, 'purser.service')
  writeFileSync(
    service,
    readFileSync(service, 'utf8').replaceAll(`ExecStart=${installed}`, `ExecStart=${at}`),
  )
  for (const name of on) {
    cpSync(join(at, `purser.service.d/${name}.conf.example`), join(at, `purser.service.d/${name}.conf`))
  }
  return at
}

/** What systemd-analyze says; a test without the tool skips itself with a reason. */
function analyze(skip: (note: string) => void, ...args: string[]): { status: number | null; text: string } {
  const child = spawnSync('systemd-analyze', args, { encoding: 'utf8' })
  if (child.error !== undefined) {
    const reason = 'systemd-analyze is not installed'
    console.warn(`skipped: ${reason}`)
    skip(reason)
  }
  return { status: child.status, text: child.stdout + child.stderr }
}

function verify(skip: (note: string) => void, at: string): string {
  const units = ['purser.service', 'purser.socket', 'purser-admin.socket'].map((unit) => join(at, unit))
  const { status, text } = analyze(skip, 'verify', '--man=no', ...units)
  // An unknown key is only a warning to it, so silence is the measure; what is said of the host's own units is not ours.
  const ours = text.split('\n').filter((line) => line.includes('purser'))
  return `${ours.join('\n')}${status === 0 ? '' : ` (exit ${status})`}`
}

/** Exposure by `systemd-analyze security`, 0 (none) to 10. */
function exposure(skip: (note: string) => void, at: string): number {
  const unit = join(at, 'purser.service')
  const { text } = analyze(skip, 'security', '--offline=true', '--no-pager', unit)
  const level = /Overall exposure level for \S+: ([0-9.]+)/.exec(text)?.[1]
  if (level === undefined) throw new Error(`no exposure level in: ${text.slice(0, 500)}`)
  return Number(level)
}

describe('systemd units', () => {
  test('verify finds nothing, with each drop-in and with all', ({ skip }) => {
    for (const on of [[], ...dropIns.map((name) => [name]), [...dropIns]]) {
      expect(verify(skip, unitDirectory(on)), on.join()).toBe('')
    }
  })

  test('verify would find something', ({ skip }) => {
    const at = unitDirectory([])
    const service = join(at, 'purser.service')
    writeFileSync(service, readFileSync(service, 'utf8').replace('LockPersonality=', 'LockPersonalty='))
    expect(verify(skip, at)).toContain('LockPersonalty')
  })

  test('exposure is at most 0.5, without JIT and with', ({ skip }) => {
    expect(exposure(skip, unitDirectory([]))).toBeLessThanOrEqual(0.5)
    expect(exposure(skip, unitDirectory(['jit']))).toBeLessThanOrEqual(0.5)
    expect(exposure(skip, unitDirectory(['network']))).toBeLessThanOrEqual(1.5)
  })

  /** Values of `key` in a unit, an empty one resetting those before it, as systemd reads them. */
  function values(text: string, key: string): string[] {
    return [...text.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map((match) => match[1] ?? '')
  }

  test('JIT and MemoryDenyWriteExecute go together: V8 dies otherwise', () => {
    const service = readFileSync(join(root, 'systemd/purser.service'), 'utf8')
    const jit = readFileSync(join(root, 'systemd/purser.service.d/jit.conf.example'), 'utf8')
    expect(values(service, 'Environment')).toContain('PURSER_JITLESS=1')
    expect(values(service, 'MemoryDenyWriteExecute')).toEqual(['yes'])
    expect(values(jit, 'Environment')).toContain('PURSER_JITLESS=0')
    expect(values(jit, 'MemoryDenyWriteExecute')).toEqual(['no'])
  })

  test('settings that break purser stay out', () => {
    const service = readFileSync(join(root, 'systemd/purser.service'), 'utf8')
    // Every client would have uid 65534.
    expect(values(service, 'PrivateUsers')).toEqual(['no'])
    // It would take /run/purser, with the socket, from purser.socket.
    expect(values(service, 'RuntimeDirectory')).toEqual([])
    // The launcher is a shell script; what it starts lies under the package.
    expect(values(service, 'ExecPaths').join(' ').split(' ')).toEqual(
      expect.arrayContaining(['/bin/sh', installed]),
    )
    expect(values(service, 'ExecStart')).toEqual([`${installed}/bin/purserd`])
    // A later list takes from an earlier one: without it the threads that run Argon2 keep their priority.
    expect(values(service, 'SystemCallFilter').at(-1)).toBe('setpriority')
  })

  test('the names of the sockets are those purserd knows', () => {
    const name = (unit: string) =>
      values(readFileSync(join(root, 'systemd', unit), 'utf8'), 'FileDescriptorName')
    expect(name('purser.socket')).toEqual(['purser'])
    expect(name('purser-admin.socket')).toEqual(['purser-admin'])
  })

  test('the users of the units are those sysusers makes', ({ skip }) => {
    const text = readFileSync(join(root, 'systemd/sysusers.d/purser.conf'), 'utf8')
    expect(text).toMatch(/^u purser /m)
    expect(text).toMatch(/^g purser-clients /m)
    const fresh = join(directory, 'root')
    mkdirSync(join(fresh, 'etc'), { recursive: true })
    const file = join(root, 'systemd/sysusers.d/purser.conf')
    const child = spawnSync('systemd-sysusers', [`--root=${fresh}`, file], { encoding: 'utf8' })
    if (child.error !== undefined) {
      console.warn('skipped: systemd-sysusers is not installed')
      return skip('systemd-sysusers is not installed')
    }
    expect(child.status, child.stderr).toBe(0)
    expect(readFileSync(join(fresh, 'etc/passwd'), 'utf8')).toMatch(/^purser:/m)
    expect(readFileSync(join(fresh, 'etc/group'), 'utf8')).toMatch(/^purser-clients:/m)
  })

  test('every example is known to the tests', () => {
    const examples = readdirSync(join(root, 'systemd/purser.service.d'))
    expect(examples.sort()).toEqual([...dropIns].map((name) => `${name}.conf.example`).sort())
  })
})
