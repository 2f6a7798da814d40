import { offHeapCopy } from '../../secret.ts'
import { type MasterKeyBytes, masterKeyBytes, parseMasterKey } from '../parse-key.ts'
import { SourceError } from './source-error.ts'

/**
 * The key in what a service gave, which stays the caller's to wipe. `raw` also takes the 32 bytes themselves: no text of
 * a key is 32 bytes long (43, 44 or 64, and white space around them), so one thing is never read as the other.
 */
export function keyFrom(bytes: Uint8Array, form: 'raw' | 'text'): MasterKeyBytes {
  const copy = offHeapCopy(bytes)
  if (form === 'raw' && copy.length === masterKeyBytes) return copy
  try {
    const key = parseMasterKey(copy)
    if (key !== null) return key
  } finally {
    copy.fill(0)
  }
  throw new SourceError(
    'what it holds is no master key',
    'it must be 32 bytes as base64, base64url or hex, and nothing else; `purser key wrap` puts one there',
  )
}
