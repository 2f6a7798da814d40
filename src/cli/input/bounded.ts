import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { offHeap } from '../../secret.ts'
import { CliError } from '../cli-error.ts'

/** Whole of `stream`, at most `maxBytes`. Throws CliError `badInput` for more. The caller wipes the Buffer. */
export async function readBounded(
  stream: NodeJS.ReadableStream,
  maxBytes: number,
  name: string,
): Promise<Buffer> {
  const buffer = offHeap(maxBytes)
  let length = 0
  for await (const part of stream) {
    const chunk = typeof part === 'string' ? Buffer.from(part) : part
    if (length + chunk.length > maxBytes) {
      buffer.fill(0)
      throw new CliError('badInput', `${name} holds more than ${maxBytes} bytes`)
    }
    chunk.copy(buffer, length)
    chunk.fill(0)
    length += chunk.length
  }
  return buffer.subarray(0, length)
}

/** Content of a regular file, at most `maxBytes`. Throws CliError `noInput` or `badInput`. The caller wipes the Buffer. */
export async function readFileBounded(path: string, maxBytes: number): Promise<Buffer> {
  let file: FileHandle
  try {
    // O_NONBLOCK: a FIFO without a writer must not hang the open; it is refused below.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (cause) {
    throw new CliError('noInput', `cannot read ${path}: ${systemReason(cause)}`, null, cause)
  }
  try {
    const { size } = await regularFile(file, path)
    if (size > maxBytes) throw new CliError('badInput', `${path} holds more than ${maxBytes} bytes`)
    return await readAll(file, maxBytes, path)
  } finally {
    await file.close()
  }
}

async function regularFile(file: FileHandle, path: string): Promise<{ size: number }> {
  const stats = await file.stat()
  if (!stats.isFile()) throw new CliError('noInput', `${path} is not a regular file`)
  return stats
}

async function readAll(file: FileHandle, maxBytes: number, path: string): Promise<Buffer> {
  const buffer = offHeap(maxBytes + 1)
  let length = 0
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, null)
    if (bytesRead === 0) return buffer.subarray(0, length)
    length += bytesRead
  }
  buffer.fill(0)
  throw new CliError('badInput', `${path} holds more than ${maxBytes} bytes`)
}

/** UTF-8 text of `bytes` without a byte order mark. Throws CliError `badInput` for anything else. */
export function decodeText(bytes: Buffer, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new CliError('badInput', `${name} is not UTF-8 text`, null, cause)
  }
}

/** What the system said, in words: `no such file or directory`. */
export function systemReason(cause: unknown): string {
  if (!(cause instanceof Error)) return 'unknown error'
  const { code } = cause as NodeJS.ErrnoException
  return (code !== undefined && systemReasons[code]) || code || 'unknown error'
}

const systemReasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EEXIST: 'it exists already',
  EISDIR: 'it is a directory',
  ELOOP: 'too many symbolic links',
  ENOENT: 'no such file or directory',
  ENOSPC: 'no space left on the device',
  ENOTDIR: 'a part of the path is not a directory',
  ENXIO: 'no such device',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
}
