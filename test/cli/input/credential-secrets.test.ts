import { describe, expect, test } from 'vitest'
import { CliError } from '../../../src/cli/cli-error.ts'
import { parseJsonObject, parseSecrets, readVariable } from '../../../src/cli/input/credential-secrets.ts'

describe('parseSecrets', () => {
  test.each([
    [
      'JSON',
      '{"apiKey":"k","apiSecret":"s","passphrase":null,"privateKey":""}',
      { apiKey: 'k', apiSecret: 's' },
    ],
    ['JSON after white space', '\n {"apiKey":"k"}', { apiKey: 'k' }],
    ['lines with the names of the wire', 'apiKey=k\napiSecret=s\n', { apiKey: 'k', apiSecret: 's' }],
    [
      'lines with the names of bots',
      'export CLOB_API_KEY="k"\nCLOB_SECRET=s',
      { apiKey: 'k', apiSecret: 's' },
    ],
  ])('%s', (_name, text, expected) => {
    expect(parseSecrets(text)).toEqual(expected)
  })

  test.each([
    ['broken JSON', '{"apiKey":"hunter2",', 'not valid JSON'],
    ['a value of another type', '{"apiSecret":["hunter2"]}', 'apiSecret is not a string'],
    ['an unknown member', '{"hunter2":"hunter2"}', 'unknown member'],
    ['an unknown name', 'apiKey=k\nLOG=hunter2', 'LOG is no name'],
    ['a line that is none', 'hunter2', 'line 1'],
  ])('%s is an error that shows no value', (_name, text, message) => {
    expect(() => parseSecrets(text)).toThrow(message)
    expect(() => parseSecrets(text)).not.toThrow('hunter2')
    expect(() => parseSecrets(text)).toThrow(CliError)
  })
})

test('parseJsonObject takes objects alone', () => {
  expect(parseJsonObject('{"a":1}', 'x')).toEqual({ a: 1 })
  for (const text of ['[]', 'null', '1', '"a"', ''])
    expect(() => parseJsonObject(text, 'x')).toThrow('x: not')
})

describe('readVariable', () => {
  test('reads and trims', () => {
    expect(readVariable({ PK: ' abc\n' }, 'PK')).toBe('abc')
  })

  test.each([
    ['unset', {}, 'PK'],
    ['blank', { PK: ' ' }, 'PK'],
  ])('%s is an error', (_name, env, name) => {
    expect(() => readVariable(env, name)).toThrow('PK is not set or empty')
  })

  test('never echoes what cannot be a name', () => {
    for (const value of ['0x1234', 'a-b', 'x'.repeat(65)]) {
      expect(() => readVariable({}, value)).toThrow('takes the NAME')
      expect(() => readVariable({}, value)).not.toThrow(value)
    }
  })
})
