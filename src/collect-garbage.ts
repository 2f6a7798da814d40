import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

let collect: (() => void) | null = null

/**
 * Runs a full garbage collection now, a few milliseconds: what was dropped (KeyObjects, whose copy of a key OpenSSL
 * cleanses when it is freed) is gone after it. V8 gives the function away only under a flag, which it takes at run time,
 * also under --jitless; a launcher's flag would show it to every program run by the same Node.
 */
export function collectGarbage(): void {
  if (collect === null) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as () => void
    setFlagsFromString('--no-expose-gc')
  }
  collect()
}
