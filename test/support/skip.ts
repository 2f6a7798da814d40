/** Skips a test and says why: a skip nobody sees looks like a pass. Return behind it. */
export function skipWith(skip: (note: string) => void, reason: string): void {
  console.warn(`skipped: ${reason}`)
  skip(reason)
}
