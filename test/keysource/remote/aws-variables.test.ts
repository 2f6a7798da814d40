import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  awsProblem,
  awsSecretVariables,
  awsVariables,
  decodeCiphertext,
} from '../../../src/keysource/remote/aws-variables.ts'

/** Read by the SDK, and not passed on: the tries are ours, and the rest says where the SDK runs, which it is not. */
const notPassedOn = [
  'AWS_CLOUDHSM',
  'AWS_EXECUTION_ENV',
  'AWS_KMS',
  'AWS_LAMBDA_FUNCTION_NAME',
  'AWS_MAX_ATTEMPTS',
  'AWS_RETRY_MODE',
  'AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED',
]

function namesIn(directory: string): string[] {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
  return files
    .filter((name) => name.endsWith('.js') && !/browser|native/.test(name))
    .flatMap((name) => {
      const text = readFileSync(join(directory, name), 'utf8')
      return [...text.matchAll(/["'](AWS_[A-Z0-9_]*[A-Z0-9])["']|env\.(AWS_[A-Z0-9_]+)/g)]
    })
    .map(([, quoted, member]) => quoted ?? member ?? '')
}

test('every variable the installed SDK reads is passed on, or left out on purpose', () => {
  const modules = realpathSync(join(import.meta.dirname, '../../../node_modules'))
  const packages = ['@aws-sdk', '@smithy'].flatMap((scope) =>
    readdirSync(join(modules, scope)).map((name) => join(modules, scope, name, 'dist-cjs')),
  )
  const read = new Set(packages.filter((path) => !path.includes('/types/')).flatMap(namesIn))
  expect(read.size).toBeGreaterThan(25)
  const known = new Set<string>([...awsVariables, ...awsSecretVariables, ...notPassedOn])
  expect([...read].filter((name) => !known.has(name))).toEqual([])
})

test('no secret one is among those that are read as text', () => {
  expect(awsVariables.filter((name) => /SECRET|(TOKEN|PASSWORD)$/.test(name))).toEqual([])
})

test('ciphertext is base64 of 1 to 6144 bytes, line breaks or not', () => {
  for (const length of [1, 2, 3, 184, 6144]) {
    const bytes = randomBytes(length)
    const text = bytes.toString('base64')
    expect(decodeCiphertext(text)).toEqual(bytes)
    expect(decodeCiphertext(`\n${text.replace(/.{64}/g, '$&\n')}\n`)).toEqual(bytes)
    expect(decodeCiphertext(text.replace(/=+$/, ''))).toEqual(bytes)
  }
  for (const text of [
    '',
    '  ',
    '=',
    'A',
    'AAA*',
    'AB==CD==',
    'AA_-',
    'AR==',
    randomBytes(6145).toString('base64'),
  ])
    expect(decodeCiphertext(text)).toBeNull()
})

test('an address that would carry the key in the clear is refused by name', () => {
  expect(awsProblem({})).toBeNull()
  expect(awsProblem({ AWS_ENDPOINT_URL: '' })).toBeNull()
  expect(awsProblem({ AWS_ENDPOINT_URL: 'http://localhost:4566' })).toBeNull()
  for (const name of ['AWS_ENDPOINT_URL', 'AWS_ENDPOINT_URL_KMS', 'AWS_ENDPOINT_URL_STS'])
    expect(awsProblem({ [name]: 'http://kms.example' })).toMatchObject({
      exit: 'config',
      message: expect.stringMatching(new RegExp(`^${name} is http to another host`)),
    })
})
