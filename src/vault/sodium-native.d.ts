/** The few calls of sodium-native that purser makes; the package ships no types. */
declare module 'sodium-native' {
  const sodium: {
    /**
     * Page-aligned memory between guard pages, locked into RAM and left out of core dumps. Beyond RLIMIT_MEMLOCK it
     * is not locked, and nothing says so.
     */
    sodium_malloc(bytes: number): Buffer
    /** Detaches the buffer at once (its length becomes 0); the pages are wiped and unmapped a turn later. */
    sodium_free(buffer: Buffer): void
    sodium_memzero(buffer: Uint8Array): void
  }
  export default sodium
}
