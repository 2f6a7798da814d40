import { readFileSync } from 'node:fs'
import { usageError } from '../cli-error.ts'

/** The greatest uid or gid: the one above means "unchanged" to the kernel. */
const idMax = 2 ** 32 - 2

/**
 * A uid or gid given by number or, as /etc/passwd or /etc/group has it, by name. Names from elsewhere (LDAP, sssd) are not
 * looked up: `getent` tells their number. Throws CliError `usage`.
 */
export function parseKernelId(kind: 'uid' | 'gid', argument: string, root = '/etc'): number {
  if (/^\d{1,10}$/.test(argument)) {
    const id = Number(argument)
    if (id <= idMax) return id
    throw usageError(`--${kind} takes a number up to ${idMax}, or a name`)
  }
  const file = `${root}/${kind === 'uid' ? 'passwd' : 'group'}`
  const found = argument === '' ? undefined : fieldsOf(file).find(([name]) => name === argument)
  const id = found === undefined ? '' : found[2]
  if (id !== undefined && /^\d{1,10}$/.test(id)) return Number(id)
  throw usageError(`--${kind}: ${file} has no ${argument}`, 'give the number; `getent` and `id` tell it')
}

/** name:password:id:... of each line; none where the file cannot be read. */
function fieldsOf(file: string): string[][] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.split(':'))
  } catch {
    return []
  }
}
