import koffi from 'koffi'
import { offHeap, SecretBytes } from '../secret.ts'

/** A pointer into the process's own memory. */
type Pointer = bigint

const libc = koffi.load('libc.so.6')

const native = {
  getenv: libc.func('void *getenv(const char *name)') as (name: string) => Pointer | null,
  strlen: libc.func('size_t strlen(const void *text)') as (text: Pointer) => number | bigint,
  memcpy: libc.func('void *memcpy(_Out_ uint8_t *to, const void *from, size_t length)') as (
    to: Buffer,
    from: Pointer,
    length: number,
  ) => Pointer,
  explicitBzero: libc.func('void explicit_bzero(void *at, size_t length)') as (
    at: Pointer,
    length: number,
  ) => void,
  unsetenv: libc.func('int unsetenv(const char *name)') as (name: string) => number,
  pipe2: libc.func('int pipe2(void *fds, int flags)') as (fds: Buffer, flags: number) => number,
}

/**
 * The value of a variable of this process's environment, in memory off the V8 heap, or null where it is not set: a
 * read through `process.env` leaves a string on the heap. The variable stays as it is. Whoever gets the bytes wipes
 * them.
 */
export function readVariable(name: string): SecretBytes | null {
  const at = native.getenv(name)
  return at === null ? null : new SecretBytes(copyOf(at))
}

/** As readVariable, and the variable is overwritten where it lay, so that /proc/PID/environ shows zeros, and unset. */
export function takeVariable(name: string): SecretBytes | null {
  const at = native.getenv(name)
  if (at === null) return null
  const text = copyOf(at)
  if (text.length > 0) native.explicitBzero(at, text.length)
  native.unsetenv(name)
  return new SecretBytes(text)
}

function copyOf(at: Pointer): Buffer {
  const length = Number(native.strlen(at))
  const text = offHeap(length)
  if (length > 0) native.memcpy(text, at, length)
  return text
}

const O_NONBLOCK = 0o4000
const O_CLOEXEC = 0o2000000

/**
 * A pipe, both ends closed on exec and never waited on. Node's own pipes to a child are read into a slab of libuv that
 * keeps the last message; this one is read where the reader says. The caller closes both ends. Throws an error with the
 * code of the system (EMFILE).
 */
export function makePipe(): { readonly readEnd: number; readonly writeEnd: number } {
  const fds = Buffer.alloc(8)
  if (native.pipe2(fds, O_CLOEXEC | O_NONBLOCK) !== 0) {
    const errno = koffi.errno()
    const code = Object.entries(koffi.os.errno).find(([, number]) => number === errno)?.[0]
    throw Object.assign(new Error('no pipe can be made'), { code })
  }
  return { readEnd: fds.readInt32LE(0), writeEnd: fds.readInt32LE(4) }
}
