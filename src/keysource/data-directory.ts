import { randomFillSync } from 'node:crypto'
import { link, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Environment } from '../config.ts'
import { StartError } from '../errors.ts'
import { offHeap } from '../secret.ts'
import { unfinishedName } from '../unfinished.ts'
import { isThere, readKeyFile } from './key-file.ts'
import type { KeySource } from './key-source.ts'
import { syncDirectory, writeNewFile } from './new-file.ts'
import { encodeMasterKey, type MasterKeyBytes, masterKeyBytes } from './parse-key.ts'

const keyFileName = 'master.key'

/** Variables systemd sets for a service, any of which means that it runs this daemon. */
const systemdVariables = ['CREDENTIALS_DIRECTORY', 'STATE_DIRECTORY', 'NOTIFY_SOCKET'] as const

/**
 * The last of the sources: `master.key` in the data directory, or, where neither it nor a store is there, one to be
 * generated. Throws StartError 77 where a store is there without its key, and where systemd runs the daemon: a service
 * that makes its own key would keep it beside what it protects, and hide that the credential is missing.
 */
export function dataDirectorySource(dataDir: string, storePath: string, env: Environment): KeySource {
  const path = join(dataDir, keyFileName)
  if (isThere(path, 'storeUnusable')) {
    return {
      kind: 'data-directory',
      describe: path,
      file: path,
      warning: null,
      read: () => readKeyFile(path, 'owner-and-mode'),
    }
  }
  if (isThere(storePath, 'storeUnusable')) {
    throw new StartError(
      'masterKey',
      `${storePath} is there, but no master key is configured`,
      'give the key it was made with, by --master-key-file, a systemd credential or MASTER_ENCRYPTION_KEY',
    )
  }
  const systemd = systemdVariables.find((name) => (env[name] ?? '') !== '')
  if (systemd !== undefined) {
    throw new StartError(
      'masterKey',
      `no master key is configured, and under systemd (${systemd} is set) none is generated`,
      'make one with systemd-creds and name it in the unit: LoadCredentialEncrypted=master-key:/etc/purser/master-key.cred',
    )
  }
  return generatedSource(dataDir, path)
}

function generatedSource(dataDir: string, path: string): KeySource {
  // Generates once: a later read, with a store by then, must find the key or fail.
  let generated = false
  return {
    kind: 'generated',
    describe: path,
    file: path,
    warning: `a master key was generated into ${path}, beside what it protects, so a copy of the directory opens everything: move it elsewhere and name it by --master-key-file, or use a systemd credential (systemd-creds encrypt)`,
    read: async () => {
      if (generated) return readKeyFile(path, 'owner-and-mode')
      const key = await generateKeyFile(dataDir, path)
      generated = true
      return key
    },
  }
}

/**
 * Makes a key and puts it at `path`, on disk before it is returned. It is written under another name first and linked,
 * so that no crash leaves half a key there and two daemons starting at once agree on one.
 */
async function generateKeyFile(dataDir: string, path: string): Promise<MasterKeyBytes> {
  const temporary = unfinishedName(path)
  const key = randomFillSync(offHeap(masterKeyBytes))
  const text = encodeMasterKey(key)
  try {
    await writeNewFile(temporary, text)
    try {
      await link(temporary, path)
    } finally {
      await unlink(temporary)
    }
    await syncDirectory(dataDir)
    return key
  } catch (error) {
    key.fill(0)
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return readKeyFile(path, 'owner-and-mode')
    throw new StartError(
      'storeUnusable',
      `no master key can be generated into ${dataDir} (${code})`,
      'make the data directory writable for the daemon user, or give a key by --master-key-file',
      error,
    )
  } finally {
    text.fill(0)
  }
}
