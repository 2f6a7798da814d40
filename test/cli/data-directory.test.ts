import { createHmac } from 'node:crypto'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { initialise } from '../../src/cli/data-directory.ts'
import { parseMasterKey } from '../../src/keysource/parse-key.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-init-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

const modeOf = (path: string): number => statSync(path).mode & 0o777

describe('initialise', () => {
  test('makes a private directory and a key that the daemon reads', () => {
    const previous = process.umask(0)
    try {
      const made = initialise(join(directory, 'a', 'b'))
      expect(modeOf(made.dataDir)).toBe(0o700)
      expect(modeOf(made.masterKeyFile)).toBe(0o600)
      const key = parseMasterKey(readFileSync(made.masterKeyFile))
      expect(key).not.toBeNull()
      expect(made.keyId).toBe(createHmac('sha256', key!).update('purser key id').digest('hex').slice(0, 16))
    } finally {
      process.umask(previous)
    }
  })

  test('makes another key each time', () => {
    expect(initialise(join(directory, 'a')).keyId).not.toBe(initialise(join(directory, 'b')).keyId)
  })

  test.each(['master.key', 'purser.db'])('refuses where %s exists, and changes nothing', (name) => {
    writeFileSync(join(directory, name), 'precious')
    expect(() => initialise(directory)).toThrow(`${name} exists already`)
    expect(readFileSync(join(directory, name), 'utf8')).toBe('precious')
    expect(statSync(join(directory, 'master.key'), { throwIfNoEntry: false }) === undefined).toBe(
      name !== 'master.key',
    )
  })

  test('a dangling symbolic link is in the way too', () => {
    symlinkSync(join(directory, 'elsewhere'), join(directory, 'master.key'))
    expect(() => initialise(directory)).toThrow('exists already')
    expect(statSync(join(directory, 'elsewhere'), { throwIfNoEntry: false })).toBeUndefined()
  })

  test('refuses a directory that others may use, a link and a file', () => {
    const open = join(directory, 'open')
    mkdirSync(open)
    chmodSync(open, 0o750)
    expect(() => initialise(open)).toThrow('others may use')
    expect(statSync(join(open, 'master.key'), { throwIfNoEntry: false })).toBeUndefined()
    symlinkSync(directory, join(directory, 'link'))
    expect(() => initialise(join(directory, 'link'))).toThrow('not a directory')
    writeFileSync(join(directory, 'file'), '')
    expect(() => initialise(join(directory, 'file'))).toThrow('cannot make')
    expect(() => initialise(join(directory, 'file', 'below'))).toThrow('cannot make')
  })
})
