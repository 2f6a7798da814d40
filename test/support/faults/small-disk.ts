import { execFileSync } from 'node:child_process'
import {
  closeSync,
  mkdtempSync,
  openSync,
  realpathSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A file system of its own (tmpfs), small enough to be filled up. */
export class SmallDisk {
  readonly directory: string

  private constructor(directory: string) {
    this.directory = directory
  }

  /** The disk, or why there is none here. */
  static mount(mebibytes: number): SmallDisk | string {
    const directory = mkdtempSync(join(realpathSync(tmpdir()), 'purser-disk-'))
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=0700`, 'tmpfs', directory], {
        stdio: 'pipe',
      })
      return new SmallDisk(directory)
    } catch (error) {
      rmdirSync(directory)
      return `no file system can be mounted: ${String((error as { stderr?: Buffer }).stderr ?? error).trim()}`
    }
  }

  /** Leaves about so many bytes free, whole pages. */
  leave(bytes: number): void {
    const fd = openSync(join(this.directory, 'ballast'), 'a')
    try {
      const { bavail, bsize } = statfsSync(this.directory)
      const ballast = Buffer.alloc(Math.max(0, bavail * bsize - bytes))
      for (let at = 0; at < ballast.length; ) at += writeSync(fd, ballast, at)
    } finally {
      closeSync(fd)
    }
  }

  /** Makes room again. */
  empty(): void {
    rmSync(join(this.directory, 'ballast'), { force: true })
  }

  unmount(): void {
    execFileSync('umount', [this.directory], { stdio: 'pipe' })
    rmdirSync(this.directory)
  }
}
