import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'smol-toml'

/** The launcher of this package; src/testing and dist/testing lie equally deep. */
export const ownLauncher: string = fileURLToPath(new URL('../../bin/purserd', import.meta.url))

/** A socket's path holds 107 bytes; beyond this the temporary directory leaves too few. */
const baseBytesMax = 70

/** Where a test daemon lives: everything in one temporary directory, mode 0700. */
export type Layout = {
  readonly directory: string
  readonly dataDirectory: string
  readonly socketPath: string
  readonly configFile: string | null
  readonly masterKey: string | null
  readonly masterKeyFile: string | null
}

export type LayoutOptions = {
  readonly config: string | Readonly<Record<string, unknown>> | undefined
  readonly masterKey: string | Uint8Array | null | undefined
  readonly dataDirectory: string | undefined
}

/** Makes the directory and the files in it. */
export function makeLayout({ config, masterKey, dataDirectory }: LayoutOptions): Layout {
  const base = Buffer.byteLength(tmpdir()) > baseBytesMax ? '/tmp' : tmpdir()
  const directory = mkdtempSync(join(base, 'purser-test-'))
  const inside = (name: string): string => join(directory, name)
  const keyText = keyAsText(masterKey)
  if (dataDirectory === undefined) mkdirSync(inside('data'), { mode: 0o700 })
  if (keyText !== null) writeFileSync(inside('master.key'), `${keyText}\n`, { mode: 0o600 })
  if (config !== undefined)
    writeFileSync(inside('purser.toml'), typeof config === 'string' ? config : stringify(config), {
      mode: 0o600,
    })
  return {
    directory,
    dataDirectory: dataDirectory ?? inside('data'),
    socketPath: inside('purser.sock'),
    configFile: config === undefined ? null : inside('purser.toml'),
    masterKey: keyText,
    masterKeyFile: keyText === null ? null : inside('master.key'),
  }
}

function keyAsText(masterKey: string | Uint8Array | null | undefined): string | null {
  if (masterKey === null || typeof masterKey === 'string') return masterKey
  return Buffer.from(masterKey ?? randomBytes(32)).toString('base64')
}
