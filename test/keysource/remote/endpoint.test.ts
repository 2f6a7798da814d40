import { expect, test } from 'vitest'
import { endpointProblem } from '../../../src/keysource/remote/endpoint.ts'

test.each([
  'https://vault.example:8200',
  'https://vault.example/behind/a/proxy',
  'https://[2001:db8::1]',
  'http://127.0.0.1:8200',
  'http://127.9.9.9',
  'http://localhost:4566/',
  'http://LOCALHOST',
  'http://[::1]:8200',
  // What URL makes of other spellings is the address that is connected to.
  'http://127.1',
  'http://2130706433',
  'http://0x7f.0.0.1',
])('%s is fine', (address) => {
  expect(endpointProblem(address)).toBeNull()
})

test.each([
  ['', 'is no URL'],
  ['vault.example:8200/x y', 'is neither https nor http to this host'],
  ['//vault.example', 'is no URL'],
  ['http://vault.example', 'is http to another host'],
  ['http://127.0.0.1.evil.example', 'is http to another host'],
  ['http://localhost.evil.example', 'is http to another host'],
  ['http://a.localhost', 'is http to another host'],
  ['http://0.0.0.0', 'is http to another host'],
  ['http://128.0.0.1', 'is http to another host'],
  ['http://[::ffff:127.0.0.1]', 'is http to another host'],
  ['http://[::]', 'is http to another host'],
  ['http://127.0.0.1@evil.example', 'is http to another host'],
  ['http://127.0.0.1\\@evil.example', null],
  ['ftp://127.0.0.1', 'is neither https'],
  ['unix:/run/vault.sock', 'is neither https'],
  ['https://user@vault.example', 'holds a user name or password'],
  ['https://:hush@vault.example', 'holds a user name or password'],
  ['https://vault.example/?token=hush', 'holds a query'],
  ['https://vault.example/#hush', 'holds a query'],
])('%s is not', (address, problem) => {
  // A backslash begins the path: the host is the one before it.
  if (problem === null) expect(new URL(address).hostname).toBe('127.0.0.1')
  else expect(endpointProblem(address)).toContain(problem)
  expect(endpointProblem(address) ?? '').not.toContain('hush')
})
