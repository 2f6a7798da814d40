import { dirname } from 'node:path'
import { syncDirectory, writeNewFile } from '../../keysource/new-file.ts'
import { offHeap } from '../../secret.ts'
import { CliError } from '../cli-error.ts'
import { systemReason } from '../input/bounded.ts'

/** Makes a file (0600) with `text` and a line feed, on disk before it returns. Throws CliError `cannotCreate`. */
export async function putIntoNewFile(path: string, text: Buffer): Promise<void> {
  const line = offHeap(text.length + 1)
  line.set(text)
  line[text.length] = 0x0a
  try {
    await writeNewFile(path, line)
    await syncDirectory(dirname(path))
  } catch (cause) {
    throw new CliError(
      'cannotCreate',
      `cannot make ${path}: ${systemReason(cause)}`,
      'nothing was changed; name a file that does not exist yet, in a directory you may write',
      cause,
    )
  } finally {
    line.fill(0)
  }
}
