import { describe, expect, test } from 'vitest'
import { readArguments } from '../../src/config/arguments.ts'
import { exitCodes, StartError } from '../../src/errors.ts'

function refusal(argv: string[]): StartError {
  try {
    readArguments(argv)
  } catch (error) {
    if (error instanceof StartError) return error
    throw error
  }
  throw new Error(`accepted: ${argv.join(' ')}`)
}

describe('flags', () => {
  test('none', () => {
    expect(readArguments([])).toEqual({ kind: 'run', flags: {} })
  })

  test('each, with a space and with =', () => {
    const argv = ['--data-dir', 'd', '--socket=s', '--admin-socket', 'a', '--config=c', '--sealed']
    expect(readArguments([...argv, '--master-key-file', 'k', '--log-level=debug'])).toEqual({
      kind: 'run',
      flags: {
        'data-dir': 'd',
        socket: 's',
        'admin-socket': 'a',
        config: 'c',
        sealed: 'true',
        'master-key-file': 'k',
        'log-level': 'debug',
      },
    })
  })

  test('the last of two counts', () => {
    expect(readArguments(['--socket', 'a', '--socket', 'b'])).toEqual({ kind: 'run', flags: { socket: 'b' } })
  })

  test('a value that begins with a dash needs =', () => {
    expect(readArguments(['--socket=-s'])).toEqual({ kind: 'run', flags: { socket: '-s' } })
  })

  test('an empty value is a value, for the configuration to refuse', () => {
    expect(readArguments(['--socket='])).toEqual({ kind: 'run', flags: { socket: '' } })
  })
})

describe('help and version', () => {
  test.each([['--help'], ['-h']])('%s names every flag and its variable', (flag) => {
    const result = readArguments([flag])
    expect(result.kind).toBe('help')
    const text = result.kind === 'help' ? result.text : ''
    for (const name of [
      'data-dir',
      'socket',
      'admin-socket',
      'config',
      'master-key-file',
      'sealed',
      'log-level',
    ]) {
      expect(text).toContain(`\n  --${name}`)
    }
    for (const name of [
      'DATA_DIR',
      'SOCKET',
      'ADMIN_SOCKET',
      'CONFIG',
      'MASTER_KEY_FILE',
      'SEALED',
      'LOG_LEVEL',
    ]) {
      expect(text).toContain(`(PURSER_${name})`)
    }
  })

  test('--version', () => {
    expect(readArguments(['--data-dir', 'd', '--version'])).toEqual({ kind: 'version' })
  })
})

describe('refused with exit 64 and the usage', () => {
  test.each<[string[], string]>([
    [['--bogus'], 'unknown flag --bogus'],
    [['--Data-Dir', 'x'], 'unknown flag --Data-Dir'],
    [['-x'], 'unknown flag -x'],
    [['--no-sealed'], 'unknown flag --no-sealed'],
    [['--socket'], '--socket needs a value'],
    [['--socket', '--sealed'], '--socket needs a value'],
    [['--data-dir', '-x'], '--data-dir needs a value'],
    [['--sealed=true'], '--sealed takes no value'],
    [['--help=x'], '--help takes no value'],
    [['start'], 'purserd takes flags only, not other arguments'],
    [['--sealed', 'yes'], 'purserd takes flags only, not other arguments'],
    [['--', '--sealed'], 'purserd takes flags only, not other arguments'],
    [['--__proto__'], 'unknown flag'],
    [['--constructor', 'x'], 'unknown flag --constructor'],
  ])('%j', (argv, message) => {
    const error = refusal(argv)
    expect(error.exitCode).toBe(exitCodes.usage)
    expect(error.message).toBe(message)
    expect(error.hint).toContain('usage: purserd [--data-dir DIR]')
    expect(error.hint).not.toContain('\n')
  })

  test('nothing that may be a pasted key is repeated', () => {
    const key = '3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    for (const argv of [[key], [`--bogus=${key}`], [`--${key}`], ['--sealed', key], [`--sealed=${key}`]]) {
      const error = refusal(argv)
      expect(`${error.message} ${error.hint}`).not.toContain(key.slice(0, 12))
    }
  })
})
