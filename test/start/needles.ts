import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'

/** A part this long cannot be there by chance, and finds a secret that was cut by a buffer or a line. */
const partBytes = 15

/**
 * What to look for so that `secret` is found raw, as hex and as base64 or base64url, wherever it begins within the
 * encoded text: at each of the three alignments, without the characters that its neighbours share.
 */
export function needlesOf(secret: Buffer): Buffer[] {
  const parts =
    secret.length <= partBytes ? [secret] : [secret.subarray(0, partBytes), secret.subarray(-partBytes)]
  return parts.flatMap((part) => {
    const hex = part.toString('hex')
    const aligned = [0, 1, 2].map((skipped) => {
      const whole = part.subarray(skipped, part.length - ((part.length - skipped) % 3))
      return whole.toString('base64')
    })
    const texts = [hex, hex.toUpperCase(), ...aligned, ...aligned.map(toUrl)]
    return [part, ...new Set(texts)].map((needle) => Buffer.from(needle))
  })
}

function toUrl(base64: string): string {
  return base64.replaceAll('+', '-').replaceAll('/', '_')
}

/** Names of the secrets of which any needle is in `bytes`. */
export function found(
  secrets: Readonly<Record<string, readonly Buffer[]>>,
  bytes: Buffer | string,
): string[] {
  const hay = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
  return Object.entries(secrets)
    .filter(([, spellings]) => spellings.flatMap(needlesOf).some((needle) => hay.includes(needle)))
    .map(([name]) => name)
}

/** Every file below `directory`, by path. */
export function filesBelow(directory: string): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile()) files.set(path, readFileSync(path))
  }
  return files
}

/** Regions the size of V8's reservations are mapped, not used; reading them whole would take minutes. */
const regionBytesMax = 256 * 1024 * 1024

/** The writable memory of a process, region by region. Needs root, for the daemon is not dumpable. */
export function* writableMemory(pid: number): Generator<Buffer> {
  const memory = openSync(`/proc/${pid}/mem`, 'r')
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) .w/.exec(line) ?? []
      if (from === undefined || to === undefined) continue
      const length = Number.parseInt(to, 16) - Number.parseInt(from, 16)
      if (length > regionBytesMax) continue
      const bytes = Buffer.allocUnsafe(length)
      try {
        yield bytes.subarray(0, readSync(memory, bytes, 0, length, BigInt(`0x${from}`)))
      } catch (error) {
        // A region that went away meanwhile, or cannot be read at all.
        if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error
      }
    }
  } finally {
    closeSync(memory)
  }
}
