import type { PurserClient } from '../../src/client/index.ts'
import { startPurser, type TestPurser } from '../../src/testing/index.ts'
import { type CliOptions, type CliResult, runCli } from './run-cli.ts'

/** A daemon with users to spend for, and the command that talks to it. */
export type Ledger = {
  readonly purser: TestPurser
  readonly client: PurserClient
  readonly run: (args: readonly string[], options?: CliOptions) => Promise<CliResult>
  /** Runs with --json and parses the answer; fails the test where the exit code is not 0. */
  readonly json: (args: readonly string[]) => Promise<Record<string, unknown>>
}

/** `alice` is of tier pro and has credential 1 with a daily limit of 400; `bob` is free and has none. */
export async function startLedger(): Promise<Ledger> {
  const purser = await startPurser({ fastKdf: true })
  const client = await purser.client({ client: 'cli-test/1' })
  await client.users.put({ userId: 'alice', tier: 'pro', email: 'alice@example.org' })
  await client.users.put({ userId: 'bob' })
  await client.credentials.store({
    userId: 'alice',
    apiKey: 'key-1',
    apiSecret: `${Buffer.alloc(32, 7).toString('base64url')}=`,
    name: 'main bot',
    dailySpendLimitUsd: '400',
  })
  const run: Ledger['run'] = (args, options = {}) =>
    runCli(args, { ...options, env: { PURSER_SOCKET: purser.socketPath, ...options.env } })
  const json: Ledger['json'] = async (args) => {
    const result = await run(['--json', ...args])
    if (result.code !== 0) throw new Error(`purser ${args.join(' ')}: exit ${result.code}\n${result.stderr}`)
    return JSON.parse(result.stdout) as Record<string, unknown>
  }
  return { purser, client, run, json }
}
