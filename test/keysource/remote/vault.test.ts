import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { SourceError } from '../../../src/keysource/remote/source-error.ts'
import { readFromVault, writeToVault } from '../../../src/keysource/remote/vault.ts'
import { vaultAccess } from '../../../src/keysource/remote/vault-access.ts'
import { answering, flood, hangUp, silence, stall } from '../support/serve.ts'
import { makeCa, noOpenssl, type TestCa } from '../support/tls.ts'
import { VaultServer } from '../support/vault-server.ts'

if (noOpenssl !== null) console.warn(`Vault by TLS is not tested: ${noOpenssl}`)

const limits = { timeoutMs: 400, pausesMs: [10, 20] }
const key = randomBytes(32)
const path = 'secret/data/polymarket/master_encryption_key'

let directory: string
let vault: VaultServer
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'purser-vault-'))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))
beforeEach(async () => {
  vault = await VaultServer.start()
  vault.put({ key: key.toString('base64') })
})
afterEach(() => vault.close())

/** Reads with the variables given, beside the address. */
async function read(env: Record<string, string>) {
  return readFromVault(await vaultAccess({ VAULT_ADDR: vault.address, ...env }), limits)
}

async function refusal(reading: Promise<unknown>, secrets: readonly string[] = []): Promise<SourceError> {
  const error = await reading.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({ name: 'SourceError' })
  for (const secret of secrets) expect(String(error) + (error as SourceError).hint).not.toContain(secret)
  return error as SourceError
}

describe('with a token', () => {
  test('in the environment or a file, white space around it trimmed', async () => {
    const token = vault.createToken()
    const file = join(directory, 'token')
    writeFileSync(file, `  ${token}\n`)
    for (const env of [{ VAULT_TOKEN: token }, { VAULT_TOKEN_FILE: file }])
      expect(await read(env)).toEqual({ result: key, warning: null })
    expect(vault.requests).toEqual(Array(2).fill({ method: 'GET', path, token, namespace: '', body: {} }))
  })

  test('it is not revoked: it is not ours', async () => {
    const token = vault.createToken()
    await read({ VAULT_TOKEN: token })
    expect(vault.tokens.has(token)).toBe(true)
  })

  test('the newest version counts, in any of the forms of a key', async () => {
    const token = vault.createToken()
    const newest = randomBytes(32)
    for (const form of ['hex', 'base64', 'base64url'] as const) {
      vault.put({ key: ` ${newest.toString(form)}\n`, other: 1 })
      expect((await read({ VAULT_TOKEN: token })).result).toEqual(newest)
    }
  })

  test('in a namespace', async () => {
    const other = randomBytes(32)
    vault.put({ key: other.toString('hex') }, 'team/bots')
    const token = vault.createToken('read', 'team/bots')
    const env = { VAULT_TOKEN: token, VAULT_NAMESPACE: 'team/bots' }
    expect((await read(env)).result).toEqual(other)
    expect((await refusal(read({ VAULT_TOKEN: token }))).message).toBe(`it refused access to ${path} (403)`)
  })

  test('at an address with a path, and with a slash at its end', async () => {
    const token = vault.createToken()
    for (const address of [`${vault.address}/`, `http://localhost:${vault.port}`])
      expect((await read({ VAULT_TOKEN: token, VAULT_ADDR: address })).result).toEqual(key)
    await refusal(read({ VAULT_TOKEN: token, VAULT_ADDR: `${vault.address}/proxied/` }))
    expect(vault.requests.at(-1)?.path).toBe(`/proxied/v1/${path}`)
  })
})

describe('by AppRole', () => {
  test('logs in, reads, and revokes the token', async () => {
    const { roleId, secretId } = vault.createRole()
    const file = join(directory, 'secret-id')
    writeFileSync(file, `${secretId}\n`)
    for (const env of [{ VAULT_SECRET_ID: secretId }, { VAULT_SECRET_ID_FILE: file }]) {
      vault.requests.length = 0
      expect(await read({ VAULT_ROLE_ID: roleId, ...env })).toEqual({ result: key, warning: null })
      expect(vault.requests.map(({ method, path: at }) => `${method} ${at}`)).toEqual([
        'POST auth/approle/login',
        `GET ${path}`,
        'POST auth/token/revoke-self',
      ])
      expect(vault.requests[0]).toMatchObject({
        token: null,
        body: { role_id: roleId, secret_id: secretId },
      })
      expect(vault.tokens.size).toBe(0)
    }
  })

  test('in a namespace, all three requests', async () => {
    vault.put({ key: key.toString('hex') }, 'bots')
    const { roleId, secretId } = vault.createRole()
    await read({ VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId, VAULT_NAMESPACE: 'bots' })
    expect(vault.requests.map(({ namespace }) => namespace)).toEqual(['bots', 'bots', 'bots'])
    expect(vault.tokens.size).toBe(0)
  })

  test('a read that fails revokes it too', async () => {
    vault.deleteNewest()
    const { roleId, secretId } = vault.createRole()
    await refusal(read({ VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId }), [secretId])
    expect(vault.tokens.size).toBe(0)
  })

  test('a token that cannot be revoked is a warning', async () => {
    const { roleId, secretId } = vault.createRole()
    const sealed = answering(503, { errors: ['Vault is sealed'] })
    // Login and read are answered as they are, the third request is not.
    vault.interjections.push(null, null, sealed, sealed, sealed)
    expect(await read({ VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId })).toMatchObject({
      result: key,
      warning: expect.stringMatching(
        /^the token of the AppRole login to Vault could not be revoked \(it is sealed/,
      ),
    })
    expect(vault.requests).toHaveLength(5)
  })

  test('a batch token is left to its lease', async () => {
    vault.tokenPrefix = 'hvb.'
    const { roleId, secretId } = vault.createRole()
    expect(await read({ VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId })).toMatchObject({ warning: null })
    expect(vault.requests).toHaveLength(2)
  })

  test.each([
    ['a wrong secret id', (role: { roleId: string }) => ({ ...role, secretId: 'hush-hush' })],
    ['an unknown role', (role: { secretId: string }) => ({ ...role, roleId: 'nobody' })],
  ])('%s is refused at the first try', async (_, change) => {
    const { roleId, secretId } = change(vault.createRole()) as { roleId: string; secretId: string }
    const error = await refusal(read({ VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId }), [secretId])
    expect(error.message).toBe('it refused the AppRole login (400)')
    expect(vault.requests).toHaveLength(1)
  })

  test('a login that answers something else', async () => {
    const { roleId, secretId } = vault.createRole()
    for (const body of [{}, { auth: null }, { auth: { client_token: 'a\nb' } }, '[]']) {
      vault.interjections.push(answering(200, body))
      const error = await refusal(read({ VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId }))
      expect(error.message).toBe('its answer is not that of Vault')
    }
  })
})

describe('refused for good, at the first try', () => {
  test.each([
    ['an unknown token', 'hvs.unknown', /^it refused access to secret\/data\/\S+ \(403\)$/],
    ['a token without the right', null, /^it refused access to secret\/data\/\S+ \(403\)$/],
  ])('%s', async (_, given, message) => {
    const token = given ?? vault.createToken('none')
    expect((await refusal(read({ VAULT_TOKEN: token }), [token])).message).toMatch(message)
    expect(vault.requests).toHaveLength(1)
  })

  test('no secret, and one that was deleted', async () => {
    const empty = vault.createToken('read', 'empty')
    const missing = await refusal(read({ VAULT_TOKEN: empty, VAULT_NAMESPACE: 'empty' }))
    expect(missing.message).toBe(`there is no secret ${path} (404)`)
    vault.deleteNewest()
    const deleted = await refusal(read({ VAULT_TOKEN: vault.createToken() }))
    expect(deleted.message).toBe(`the newest version of the secret ${path} was deleted (404)`)
    expect(vault.requests).toHaveLength(2)
  })

  test.each([
    ['another field', { keys: 'x' }, /has no field key/],
    ['a field that is no text', { key: 5 }, /has no field key/],
    ['text that is no key', { key: 'hush-hush' }, /^what it holds is no master key$/],
    ['an empty text', { key: '' }, /^what it holds is no master key$/],
  ])('%s', async (_, data, message) => {
    vault.put(data)
    const error = await refusal(read({ VAULT_TOKEN: vault.createToken() }), ['hush-hush'])
    expect(error.message).toMatch(message)
    expect(vault.requests).toHaveLength(1)
  })

  test('a member of a prototype is no field', async () => {
    vault.interjections.push(answering(200, '{"data":{"data":{"__proto__":{"key":"x"}}}}'))
    const error = await refusal(read({ VAULT_TOKEN: vault.createToken() }))
    expect(error.message).toMatch(/has no field key/)
  })

  test.each([
    ['no JSON', answering(200, 'garbage'), /^its answer is not that of Vault$/],
    ['another JSON', answering(200, 'null'), /has no field key/],
    ['an answer without end', flood, /^its answer is longer than 256 KiB$/],
    ['a bad request', answering(400, { errors: ['no'] }), /^it did not accept the request for \S+ \(400\)$/],
  ])('%s', async (_, interjection, message) => {
    vault.interjections.push(interjection)
    expect((await refusal(read({ VAULT_TOKEN: vault.createToken() }))).message).toMatch(message)
    expect(vault.requests).toHaveLength(1)
  })

  test('an answer that quotes the token is not repeated', async () => {
    const token = vault.createToken()
    vault.interjections.push(answering(418, { errors: [`no ${token}`] }, { 'x-echo': token }))
    await refusal(read({ VAULT_TOKEN: token }), [token])
  })

  test('a redirect is not followed, to another host or to itself', async () => {
    const elsewhere = await VaultServer.start()
    const token = vault.createToken()
    for (const location of [
      `${elsewhere.address}/v1/${path}`,
      `${vault.address}/v1/${path}`,
      `/v1/${path}`,
    ]) {
      vault.interjections.push(answering(307, '', { location }))
      const error = await refusal(read({ VAULT_TOKEN: token }), [token])
      expect(error.message).toBe('it redirects elsewhere (307)')
    }
    expect(vault.requests).toHaveLength(3)
    expect(elsewhere.requests).toHaveLength(0)
    await elsewhere.close()
  })
})

describe('tried three times', () => {
  const later: [string, ReturnType<typeof answering>, string][] = [
    ['a quota', answering(429, { errors: ['rate limit quota exceeded'] }), 'too many requests'],
    ['sealed', answering(503, { errors: ['Vault is sealed'] }), 'it is sealed (503)'],
    ['a standby', answering(473, ''), 'it cannot answer now (473)'],
    ['a standby that is behind', answering(412, ''), 'it cannot answer now (412)'],
    ['a failure inside', answering(500, { errors: ['internal error'] }), 'it cannot answer now (500)'],
    ['no answer in time', silence, 'no answer within 0.4 s'],
    ['half an answer in time', stall, 'no answer within 0.4 s'],
    ['a connection that is cut', hangUp, 'cannot be reached (ECONNRESET)'],
  ]

  test.each(later)('%s: the third try brings the key', async (_, interjection) => {
    vault.interjections.push(interjection, interjection)
    expect((await read({ VAULT_TOKEN: vault.createToken() })).result).toEqual(key)
    expect(vault.requests).toHaveLength(3)
  })

  test.each(later)('%s: after the third it is over', async (_, interjection, message) => {
    vault.interjections.push(interjection, interjection, interjection)
    expect((await refusal(read({ VAULT_TOKEN: vault.createToken() }))).message).toContain(message)
    expect(vault.requests).toHaveLength(3)
  })

  test('each request of an AppRole login by itself', async () => {
    const busy = answering(503, 'busy')
    vault.interjections.push(busy, busy, null, busy, busy, null)
    const { roleId, secretId } = vault.createRole(1)
    expect((await read({ VAULT_ROLE_ID: roleId, VAULT_SECRET_ID: secretId })).result).toEqual(key)
    expect(vault.requests).toHaveLength(7)
  })
})

describe('purser key wrap', () => {
  test('makes the first version, and another only where that is asked for', async () => {
    const access = await vaultAccess({
      VAULT_ADDR: vault.address,
      VAULT_NAMESPACE: 'new',
      VAULT_TOKEN: vault.createToken('write', 'new'),
    })
    const write = (replace: boolean) => writeToVault(access, { key, replace }, limits)
    expect(await write(false)).toEqual({ result: 1, warning: null })
    expect(vault.get('new')).toEqual({ key: key.toString('base64') })
    expect((await refusal(write(false), [key.toString('base64')])).message).toContain('exists already')
    expect(await write(true)).toEqual({ result: 2, warning: null })
    expect((await readFromVault(access, limits)).result).toEqual(key)
  })

  test('a token that may only read is refused', async () => {
    const access = await vaultAccess({ VAULT_ADDR: vault.address, VAULT_TOKEN: vault.createToken() })
    const error = await refusal(writeToVault(access, { key, replace: true }, limits))
    expect(error.message).toBe(`it refused access to ${path} (403)`)
  })
})

describe.skipIf(noOpenssl !== null)('by TLS', () => {
  let ca: TestCa
  let other: TestCa
  let secure: VaultServer
  beforeAll(async () => {
    ca = makeCa()
    other = makeCa()
    secure = await VaultServer.start(ca.server)
    secure.put({ key: key.toString('hex') })
  })
  afterAll(async () => {
    await secure.close()
    ca.remove()
    other.remove()
  })

  const env = () => ({ VAULT_ADDR: secure.address, VAULT_TOKEN: secure.createToken() })

  test('with a CA of our own', async () => {
    expect((await read({ ...env(), VAULT_CACERT: ca.caFile })).result).toEqual(key)
    const byName = { ...env(), VAULT_ADDR: `https://localhost:${secure.port}`, VAULT_CACERT: ca.caFile }
    expect((await read(byName)).result).toEqual(key)
  })

  test('several CAs in one file', async () => {
    const both = join(directory, 'both.pem')
    writeFileSync(both, readFileSync(other.caFile, 'utf8') + readFileSync(ca.caFile, 'utf8'))
    expect((await read({ ...env(), VAULT_CACERT: both })).result).toEqual(key)
  })

  test('a certificate that nobody vouches for gets no token, and is not asked again', async () => {
    for (const trusted of [{}, { VAULT_CACERT: other.caFile }]) {
      secure.requests.length = 0
      const { message } = await refusal(read({ ...env(), ...trusted }))
      expect(message).toMatch(/^the certificate of 127\.0\.0\.1:\d+ is not trusted \([A-Z_]+\)$/)
      expect(secure.requests).toHaveLength(0)
    }
  })

  test('a certificate for another name', async () => {
    const address = `https://127.0.0.2:${secure.port}`
    const { message } = await refusal(read({ ...env(), VAULT_ADDR: address, VAULT_CACERT: ca.caFile }))
    // The server listens on 127.0.0.1 alone where the host tells loopback addresses apart.
    expect(message).toMatch(/\((ERR_TLS_CERT_ALTNAME_INVALID|ECONNREFUSED)\)$/)
  })

  test('a port without TLS', async () => {
    const address = vault.address.replace('http:', 'https:')
    const { message } = await refusal(read({ VAULT_ADDR: address, VAULT_TOKEN: 'hvs.x' }))
    expect(message).toMatch(/does not speak TLS as expected/)
  })
})
