/** Whether the launcher gave Node its flag for that (bin/purserd). */
export function canCollectGarbage(): boolean {
  return globalThis.gc !== undefined
}

/**
 * Runs a full garbage collection now, some milliseconds, where it can: what was dropped is gone after it (a KeyObject's
 * copy of a key is cleansed when it is collected).
 *
 * The flag must be there from the start. To set it at run time takes a vm context to get the function from, and the
 * collection that frees the context gives its pages back by madvise(2), which the kernel refuses for locked memory, and
 * V8 aborts (measured, Node 24 with mlockall).
 */
export function collectGarbage(): void {
  globalThis.gc?.()
}
