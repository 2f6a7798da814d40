import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { resolveSocketPath } from '../../src/client/socket-path.ts'
import { skipWith } from '../support/skip.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-path-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function put(...parts: string[]): string {
  const path = join(directory, ...parts, 'purser', 'purser.sock')
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, '')
  return path
}

describe('resolveSocketPath', () => {
  test('the option beats PURSER_SOCKET beats everything found', () => {
    put('run')
    const env = { PURSER_SOCKET: '/from/env.sock', XDG_RUNTIME_DIR: join(directory, 'run') }
    expect(resolveSocketPath('/from/option.sock', env)).toEqual({
      path: '/from/option.sock',
      tried: ['/from/option.sock'],
    })
    expect(resolveSocketPath(undefined, env).path).toBe('/from/env.sock')
  })

  test('an empty PURSER_SOCKET counts as none', () => {
    const path = put('run')
    expect(
      resolveSocketPath(undefined, { PURSER_SOCKET: '', XDG_RUNTIME_DIR: join(directory, 'run') }).path,
    ).toBe(path)
  })

  test('takes the runtime directory where the socket is there, else looks on', () => {
    const env = { XDG_RUNTIME_DIR: join(directory, 'run'), XDG_DATA_HOME: join(directory, 'data') }
    const inData = put('data')
    expect(resolveSocketPath(undefined, env).path).toBe(inData)
    const inRun = put('run')
    expect(resolveSocketPath(undefined, env).path).toBe(inRun)
  })

  test('where none is there, names the data directory and all that was tried', () => {
    const env = { XDG_RUNTIME_DIR: join(directory, 'run'), XDG_DATA_HOME: join(directory, 'data') }
    expect(resolveSocketPath(undefined, env)).toEqual({
      path: join(directory, 'data', 'purser', 'purser.sock'),
      tried: [
        join(directory, 'run', 'purser', 'purser.sock'),
        '/run/purser/purser.sock',
        join(directory, 'data', 'purser', 'purser.sock'),
      ],
    })
  })

  test('a directory that may not be entered counts as there', ({ skip }) => {
    if (process.getuid?.() === 0) return skipWith(skip, 'root enters every directory')
    const path = put('run')
    chmodSync(join(path, '..'), 0)
    expect(resolveSocketPath(undefined, { XDG_RUNTIME_DIR: join(directory, 'run') }).path).toBe(path)
    chmodSync(join(path, '..'), 0o700)
  })
})
