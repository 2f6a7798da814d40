import { fileURLToPath } from 'node:url'
import type { StartPurserOptions, TestPurser } from '../../src/testing/index.ts'
import { startPurser } from '../../src/testing/index.ts'

const delayed = fileURLToPath(new URL('./delayed-purserd', import.meta.url))

/** Which store runner the flows of this vitest project use: `direct`, or `delayed` (every query awaited). */
export const runner: 'direct' | 'delayed' =
  process.env['PURSER_TEST_RUNNER'] === 'delayed' ? 'delayed' : 'direct'

/** A real daemon for one flow, with the runner of this project and a cheap key derivation unless told otherwise. */
export function startFlow(options: StartPurserOptions = {}): Promise<TestPurser> {
  return startPurser({ fastKdf: true, ...(runner === 'delayed' ? { launcher: delayed } : {}), ...options })
}

/** Well-known hardhat keys: they hold nothing and everybody knows them. */
export const hardhatKeys = [
  {
    privateKey: '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
    address: '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266',
  },
  {
    privateKey: '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
    address: '0x70997970C51812dc3A010C7d01b50e0d17dc79C8',
  },
  {
    privateKey: '0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
    address: '0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC',
  },
] as const

/** A secret of the exchange's form: 32 bytes, all `fill`, as padded base64url. */
export function apiSecret(fill: number): string {
  return `${Buffer.alloc(32, fill).toString('base64url')}=`
}
