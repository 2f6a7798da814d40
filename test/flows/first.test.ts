import { expect, test } from 'vitest'
import { apiSecret, hardhatKeys, startFlow } from '../support/flow.ts'
import { RawClient } from '../support/raw-client.ts'

test('a credential goes in and comes out', async () => {
  await using purser = await startFlow()
  const client = new RawClient(purser.socketPath)
  const [key] = hardhatKeys
  const stored = await client.call('credentials.store', {
    userId: 'alice',
    apiKey: 'key-1',
    apiSecret: apiSecret(1),
    passphrase: 'open "sesame"\n',
    privateKey: key.privateKey,
  })
  expect(stored.result).toMatchObject({ credentialId: 1, address: key.address })
  const retrieved = await client.call('credentials.retrieve', { userId: 'alice' })
  expect(retrieved.result).toEqual({
    credentialId: 1,
    name: null,
    apiKey: 'key-1',
    apiSecret: apiSecret(1),
    passphrase: 'open "sesame"\n',
    privateKey: key.privateKey,
    address: key.address,
    expiresAt: null,
  })
  client.close()
})
