/** Whether the launcher gave Node its flag for that (bin/purserd). */
export function canCollectGarbage(): boolean {
  return globalThis.gc !== undefined
}

/**
 * Runs a full garbage collection now, some milliseconds, where it can: what was dropped is gone after it (a KeyObject's
 * copy of a key is cleansed when it is collected).
 *
 * The flag must be there from the start: to set it at run time takes a vm context to get the function from. A collection
 * asked for gives pages that became free back by madvise(2), which the kernel refuses for locked memory, and V8 aborts
 * (measured, Node 24 with mlockall): see collectInside.
 */
export function collectGarbage(): void {
  const { gc } = globalThis
  if (gc !== undefined) around(() => void gc())
}

/** Has every collection run inside of `wrap`: a process whose memory is locked lets go of it meanwhile. */
export function collectInside(wrap: (collect: () => void) => void): void {
  around = wrap
}

let around = (collect: () => void): void => collect()
