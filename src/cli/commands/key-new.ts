import { randomFillSync } from 'node:crypto'
import { resolve } from 'node:path'
import { encodeMasterKeyBase64, masterKeyBytes } from '../../keysource/parse-key.ts'
import { offHeap } from '../../secret.ts'
import { keyIdOf } from '../../vault/keyring.ts'
import { type Cli, type GlobalOptions, hint, note, print } from '../cli.ts'
import { putIntoNewFile } from './key-out.ts'

/** `purser key new`: a new master key on stdout, or in the new file `out`. */
export async function newKey(cli: Cli, options: GlobalOptions, out: string | undefined): Promise<void> {
  const masterKey = randomFillSync(offHeap(masterKeyBytes))
  const text = encodeMasterKeyBase64(masterKey)
  try {
    const keyId = keyIdOf(masterKey)
    if (out === undefined) {
      const made = { keyId, key: text.toString('latin1') }
      await print(cli, options, made, ({ key }) => `${key}\n`)
      note(cli, `key id ${keyId}`)
      if (cli.output.isTerminal) hint(cli, 'the key stays in the scrollback: clear it, or use --out FILE')
    } else {
      const path = resolve(out)
      await putIntoNewFile(path, text)
      await print(cli, options, { keyId, path }, () => `made ${path} (0600), key id ${keyId}\n`)
    }
  } finally {
    masterKey.fill(0)
    text.fill(0)
  }
}
