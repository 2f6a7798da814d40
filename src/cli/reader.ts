import koffi from 'koffi'

const poll = koffi.load('libc.so.6').func('int poll(void *fds, unsigned long count, int timeoutMs)') as (
  fds: Buffer,
  count: number,
  timeoutMs: number,
) => number

const POLLERR = 0x8
const POLLHUP = 0x10
/** Where struct pollfd holds what was found; its size. */
const revents = { at: 6, size: 8 } as const

/** Whether nobody reads any more what is written to `fd`. Node tells only of a write that failed. */
export function isReaderGone(fd: number): boolean {
  const asked = Buffer.alloc(revents.size)
  // No event is asked for: an error or a hang-up is told without.
  asked.writeInt32LE(fd, 0)
  return poll(asked, 1, 0) > 0 && (asked.readInt16LE(revents.at) & (POLLERR | POLLHUP)) !== 0
}
