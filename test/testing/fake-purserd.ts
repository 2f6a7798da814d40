import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A launcher that does what a test says, in sh: `$socket` is the socket's path, `ready` prints the ready line. */
export class FakePurserd implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'purser-fake-'))
  readonly launcher = join(this.directory, 'purserd')

  constructor(body: string) {
    const script = `#!/bin/sh
while [ $# -gt 0 ]; do case $1 in --socket) socket=$2; shift ;; esac; shift; done
ready() { echo "{\\"level\\":30,\\"msg\\":\\"ready\\",\\"socket\\":\\"$socket\\",\\"boundary\\":\\"none\\"}"; }
${body}
`
    writeFileSync(this.launcher, script)
    chmodSync(this.launcher, 0o755)
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** Whether a process is there and no zombie. */
export function isAlive(pid: number, stat: (pid: number) => string): boolean {
  try {
    return !/\) [ZX] /.test(stat(pid))
  } catch {
    return false
  }
}
