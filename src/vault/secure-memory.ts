import { readFileSync } from 'node:fs'
import sodium from 'sodium-native'
import { PurserError } from '../errors.ts'

/** Room for the longest plaintext of an envelope: three fields of 65,535 bytes, see credential-secrets.ts. */
const MAX_SECURE_BYTES = 262_144

/**
 * Allocations at once. Each takes 4 of the 65,530 mappings a process may have (vm.max_map_count, measured), and where
 * the kernel refuses one more, Node does not throw: it aborts. Half is left to V8, malloc and thread stacks.
 */
const MAX_SECURE_ALLOCATIONS = 8192

/** Opened credentials leave the cache within its ttl (it keeps half of these at most) and derivations within seconds; a caller can wait for that. */
const FULL_RETRY_AFTER_MS = 1000

/** The kernel locks whole pages, so an allocation of one byte takes this much of RLIMIT_MEMLOCK. */
const PAGE_BYTES = 4096

/** Tries of secureMemoryIsLocked: another thread that unmaps locked memory meanwhile hides what one try locked. */
const LOCK_PROBES = 3

/** libsodium puts so much before the bytes it hands out, on the same locked pages: a canary. */
const CANARY_BYTES = 16

let allocations = 0
let lockablePages = 0

/** Memory that nobody freed is wiped and unmapped when it is collected; then it no longer counts. */
const collected = new FinalizationRegistry<number>((pages) => {
  allocations -= 1
  lockablePages -= pages
})

/**
 * Zeroed memory for a secret: off the V8 heap (the collector never copies it), between guard pages, left out of core
 * dumps and, as far as RLIMIT_MEMLOCK reaches, never swapped. Give it back with secureFree. Throws RangeError for a
 * length out of bounds and Overloaded where too many are in use.
 */
export function secureAlloc(length: number): Buffer {
  if (!Number.isInteger(length) || length < 1 || length > MAX_SECURE_BYTES) {
    throw new RangeError(`a secure allocation holds 1 to ${MAX_SECURE_BYTES} bytes`)
  }
  if (allocations >= MAX_SECURE_ALLOCATIONS) {
    throw new PurserError('Overloaded', { retryAfterMs: FULL_RETRY_AFTER_MS })
  }
  const buffer = sodium.sodium_malloc(length)
  const pages = pagesOf(length)
  allocations += 1
  lockablePages += pages
  collected.register(buffer.buffer, pages, buffer.buffer)
  // libsodium fills new memory with 0xdb; what was allocated and not written to should not look like a secret.
  sodium.sodium_memzero(buffer)
  return buffer
}

/** A copy of `bytes` in a secure allocation. `bytes` are left as they are: whoever made them wipes them. */
export function secureCopy(bytes: Uint8Array): Buffer {
  const copy = secureAlloc(bytes.length)
  copy.set(bytes)
  return copy
}

/**
 * Wipes and frees what secureAlloc gave. The bytes are gone when this returns; the pages go a turn of the event loop
 * later. Every view of them then has length 0, so a use after this reads nothing. Called again it does nothing.
 */
export function secureFree(buffer: Buffer): void {
  if (buffer.length === 0) return
  collected.unregister(buffer.buffer)
  const pages = pagesOf(buffer.buffer.byteLength)
  // By itself sodium_free wipes no sooner than it unmaps.
  sodium.sodium_memzero(buffer)
  sodium.sodium_free(buffer)
  // Counted until the pages are gone: a loop within one turn would otherwise reach the kernel's bound, not ours.
  setImmediate(() => {
    allocations -= 1
    lockablePages -= pages
  })
}

/** Secure allocations in use, those freed in this turn of the event loop among them. */
export function secureAllocations(): number {
  return allocations
}

/** Whole pages that the kernel is asked to lock for an allocation. */
function pagesOf(length: number): number {
  return Math.ceil((CANARY_BYTES + length) / PAGE_BYTES)
}

/**
 * The pages of all secure allocations in use, and how many bytes of them the kernel does not keep in RAM: all of them
 * where /proc does not tell.
 */
export function secureMemory(): { bytes: number; unlockedBytes: number } {
  const bytes = lockablePages * PAGE_BYTES
  return { bytes, unlockedBytes: Math.max(0, bytes - (lockedKib() ?? 0) * 1024) }
}

/** RLIMIT_MEMLOCK of this process in bytes, null where there is none or /proc does not tell. */
export function lockLimitBytes(): number | null {
  try {
    const limit = /^Max locked memory +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    return limit === undefined ? null : Number(limit)
  } catch {
    return null
  }
}

/**
 * Whether secure allocations of `bytes` more would be locked now. Past RLIMIT_MEMLOCK sodium stops locking and says
 * nothing, so this makes them, looks at what the kernel counts and frees them. False also where /proc does not tell.
 */
export function secureMemoryIsLocked(bytes: number = PAGE_BYTES): boolean {
  for (let probe = 0; probe < LOCK_PROBES; probe++) {
    const before = lockedKib()
    const buffers: Buffer[] = []
    for (let left = bytes; left > 0; left -= MAX_SECURE_BYTES) {
      buffers.push(secureAlloc(Math.min(left, MAX_SECURE_BYTES)))
    }
    const after = lockedKib()
    for (const buffer of buffers) secureFree(buffer)
    if (before === null || after === null) return false
    if (after - before >= Math.floor(bytes / 1024)) return true
  }
  return false
}

/** Memory of this process that the kernel keeps in RAM, in KiB; null where it does not say. */
function lockedKib(): number | null {
  try {
    const line = /^VmLck:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))
    return line === null ? null : Number(line[1])
  } catch {
    return null
  }
}
