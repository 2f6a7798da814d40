import { inspect } from 'node:util'

/**
 * Bytes outside the V8 heap. A typed array of at most 64 bytes made any other way lives on the heap, where the
 * collector copies it and `fill(0)` clears only one copy; `allocUnsafe` shares a pool.
 */
export function offHeap(length: number): Buffer {
  return Buffer.from(new ArrayBuffer(length))
}

/** A copy of `bytes` in memory of its own, off the V8 heap. */
export function offHeapCopy(bytes: Uint8Array): Buffer {
  const copy = offHeap(bytes.length)
  copy.set(bytes)
  return copy
}

/** Set while an answer is encoded: secrets met by JSON.stringify leave their place here (see transport/secret-json.ts). */
let collector: { readonly hole: string; readonly found: SecretBytes[] } | null = null

/** Runs `stringify` so that each SecretBytes becomes the string `hole` + index; answers the secrets in that order. */
export function collectSecrets(
  hole: string,
  stringify: () => string,
): { text: string; found: SecretBytes[] } {
  const found: SecretBytes[] = []
  collector = { hole, found }
  try {
    return { text: stringify(), found }
  } finally {
    collector = null
  }
}

/**
 * A secret on its way through the daemon: bytes of its own that print as `[secret]` whatever prints them. Whoever
 * made it wipes it. Never turn one into a string on the paths that store, open, cache and sign.
 */
export class SecretBytes {
  readonly bytes: Buffer

  /** Takes ownership of `bytes`, which must be off-heap (offHeap) or a secure allocation. */
  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get length(): number {
    return this.bytes.length
  }

  wipe(): void {
    this.bytes.fill(0)
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    if (collector === null) return '[secret]'
    return collector.hole + (collector.found.push(this) - 1)
  }

  [inspect.custom](): string {
    return '[secret]'
  }
}
