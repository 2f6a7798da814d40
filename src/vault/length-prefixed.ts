/** Longest part: its length goes into two bytes. */
const MAX_PART_BYTES = 0xffff

/**
 * The parts one after another, each behind its length (16 bits, big-endian). Two different lists never give the same
 * bytes, so authenticated data made this way means one thing: without the lengths, user `a` with credential `bc` and
 * user `ab` with credential `c` would open each other's envelopes. Not for secrets: the result is ordinary memory.
 */
export function lengthPrefixed(parts: readonly (Uint8Array | string)[]): Buffer {
  const encoded: Buffer[] = []
  for (const part of parts) {
    const bytes = typeof part === 'string' ? utf8(part) : part
    if (bytes.length > MAX_PART_BYTES) throw new RangeError('a part holds at most 65535 bytes')
    const length = Buffer.alloc(2)
    length.writeUInt16BE(bytes.length)
    encoded.push(length, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
  }
  return Buffer.concat(encoded)
}

/** An unsigned 32-bit number as four bytes, big-endian. Throws RangeError where it does not fit. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** A non-negative safe integer as eight bytes, big-endian. Throws RangeError for anything else. */
export function uint64(value: number): Buffer {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError('not a non-negative safe integer')
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes
}

function utf8(text: string): Buffer {
  // Every lone surrogate is encoded as U+FFFD: two different texts would become the same bytes.
  if (!text.isWellFormed()) throw new RangeError('not well-formed Unicode')
  return Buffer.from(text, 'utf8')
}
