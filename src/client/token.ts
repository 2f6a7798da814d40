import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { TokenError } from './errors.ts'

/** A token is 47 bytes; a longer file is another one. */
const fileBytesMax = 1024
const groupAndOthers = 0o077

type Env = Readonly<Record<string, string | undefined>>

/**
 * Where the token comes from: the option `token`, else `tokenFile`, else `PURSER_TOKEN`, else `PURSER_TOKEN_FILE`. A file
 * is read at each connection, so a new token in it counts from the next one on. The answer throws TokenError. Throws
 * TypeError where both options are given.
 */
export function tokenSource(
  { token, tokenFile }: { token?: string | undefined; tokenFile?: string | undefined },
  env: Env = process.env,
): () => string | undefined {
  if (token !== undefined && tokenFile !== undefined)
    throw new TypeError('token and tokenFile exclude each other')
  if (token !== undefined) return () => token
  const path = tokenFile ?? (env['PURSER_TOKEN'] ? undefined : env['PURSER_TOKEN_FILE'] || undefined)
  if (path !== undefined) return () => readTokenFile(path, env)
  return () => env['PURSER_TOKEN'] || undefined
}

function readTokenFile(path: string, env: Env): string {
  const buffer = Buffer.alloc(fileBytesMax + 1)
  try {
    const length = readInto(buffer, path, env)
    const token = buffer.toString('latin1', 0, length).trim()
    if (token === '' || length > fileBytesMax)
      throw new TokenError(`${path} holds no token`, 'it must hold the token of clients.add and nothing else')
    return token
  } finally {
    buffer.fill(0)
  }
}

function readInto(buffer: Buffer, path: string, env: Env): number {
  let fd: number
  try {
    // A FIFO without a writer must not hang the open; it is refused below.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException
    throw new TokenError(`the token file ${path} cannot be read (${code})`, 'name another one', error)
  }
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) throw new TokenError(`${path} is not a regular file`, 'name another one')
    // What systemd hands to a unit is guarded by an ACL, whose mask shows in the group's bits.
    const directory = env['CREDENTIALS_DIRECTORY']
    const isCredential = Boolean(directory) && path.startsWith(`${directory}/`)
    if ((stats.mode & groupAndOthers) !== 0 && !isCredential)
      throw new TokenError(`others may read the token file ${path}`, `chmod 600 ${path}`)
    let length = 0
    for (let read = -1; read !== 0 && length < buffer.length; length += read)
      read = readSync(fd, buffer, length, buffer.length - length, null)
    return length
  } finally {
    closeSync(fd)
  }
}
