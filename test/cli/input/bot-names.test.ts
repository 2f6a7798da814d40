import { describe, expect, test } from 'vitest'
import { CliError } from '../../../src/cli/cli-error.ts'
import {
  botNames,
  collectFieldMap,
  fieldOf,
  secretFields,
  takeSecrets,
} from '../../../src/cli/input/bot-names.ts'
import { parseEnvFile } from '../../../src/cli/input/env-file.ts'

const take = (text: string, map = {}) => takeSecrets(parseEnvFile(text).entries, map)

function errorOf(act: () => unknown): CliError {
  try {
    act()
  } catch (error) {
    if (error instanceof CliError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('botNames', () => {
  test('no name stands for two fields', () => {
    const names = secretFields.flatMap((field) => botNames[field])
    expect(new Set(names).size).toBe(names.length)
  })

  test.each([
    ['POLY_API_KEY', 'apiKey'],
    ['CLOB_SECRET', 'apiSecret'],
    ['CLOB_PASS_PHRASE', 'passphrase'],
    ['PK', 'privateKey'],
    ['POLYMARKET_Wallet_Private_Key', 'privateKey'],
    ['apiSecret', 'apiSecret'],
    ['API_KEY', null],
    ['KALSHI_PRIVATE_KEY', null],
    ['POLY_BUILDER_API_KEY', null],
    ['constructor', null],
  ])('%s stands for %s', (name, field) => {
    expect(fieldOf(name)).toBe(field)
  })
})

describe('takeSecrets', () => {
  test('sorts names into taken, ignored, other secrets and empty', () => {
    expect(
      take(
        'POLY_API_KEY=k\nPOLY_API_SECRET=s\nPOLY_PASSPHRASE=\nLOG_LEVEL=info\nOPENAI_API_KEY=o\nEMPTY_TOKEN=',
      ),
    ).toEqual({
      secrets: { apiKey: 'k', apiSecret: 's' },
      taken: [
        { field: 'apiKey', name: 'POLY_API_KEY' },
        { field: 'apiSecret', name: 'POLY_API_SECRET' },
      ],
      ignored: ['LOG_LEVEL', 'OPENAI_API_KEY', 'EMPTY_TOKEN'],
      otherSecrets: ['OPENAI_API_KEY'],
      empty: ['POLY_PASSPHRASE'],
    })
  })

  test('one value under several names is no conflict', () => {
    const { secrets, taken } = take('PK=0xAB12\nPRIVATE_KEY=ab12\nPK=0xab12')
    expect(secrets).toEqual({ privateKey: '0xAB12' })
    expect(taken.map(({ name }) => name)).toEqual(['PK', 'PRIVATE_KEY'])
  })

  test.each([
    [
      'two names',
      'POLY_API_KEY=value1\n\nCLOB_API_KEY=value2',
      'POLY_API_KEY (line 1) and CLOB_API_KEY (line 3)',
    ],
    ['the same name twice', 'PK=value1\nPK=value2', 'PK (line 1) and PK (line 2)'],
    ['a secret that differs in case only', 'CLOB_SECRET=valueX\nPOLY_SECRET=valuex', 'CLOB_SECRET (line 1)'],
  ])(
    '%s with different values are an error that names both and shows neither value',
    (_name, text, named) => {
      const error = errorOf(() => take(text))
      expect(error.message).toContain(named)
      expect(`${error.message} ${error.hint}`).not.toMatch(/value[12x]/i)
    },
  )

  test.each(['$SECRET', `\${SECRET}`, '$(pass show x)'])('%s is a reference, not a value', (value) => {
    expect(errorOf(() => take(`PK=${value}`)).message).toBe('PK (line 1) refers to another variable')
  })

  test('a mapped field goes by its mapped name alone', () => {
    const { secrets, ignored } = take('PK=one\nBOT2_PK=two', { privateKey: 'BOT2_PK' })
    expect(secrets).toEqual({ privateKey: 'two' })
    expect(ignored).toEqual(['PK'])
  })
})

describe('collectFieldMap', () => {
  test('collects', () => {
    expect(collectFieldMap('apiKey=A', collectFieldMap('privateKey=B_2'))).toEqual({
      apiKey: 'A',
      privateKey: 'B_2',
    })
  })

  test.each(['apiKey', 'apiKey=', 'other=A', '=A', 'apiKey=1A', '__proto__=A'])('refuses %s', (argument) => {
    expect(errorOf(() => collectFieldMap(argument)).exitCode).toBe(64)
  })
})
