import { startPurser, type TestPurser } from '../../src/testing/index.ts'
import { type CliOptions, type CliResult, runCli } from './run-cli.ts'

export const apiSecret = `${Buffer.alloc(32, 7).toString('base64url')}=`
export const privateKey = `0x${'01'.repeat(32)}`
export const address = '0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1'

/** A daemon and the command that talks to it. */
export type CliDaemon = {
  readonly purser: TestPurser
  readonly run: (args: readonly string[], options?: CliOptions) => Promise<CliResult>
  /** Runs with --json and parses the answer; fails the test where the exit code is not 0. */
  readonly json: (args: readonly string[], options?: CliOptions) => Promise<Record<string, unknown>>
}

export async function startCliDaemon(): Promise<CliDaemon> {
  const purser = await startPurser({ fastKdf: true })
  const run: CliDaemon['run'] = (args, options = {}) =>
    runCli(args, { ...options, env: { PURSER_SOCKET: purser.socketPath, ...options.env } })
  const json: CliDaemon['json'] = async (args, options) => {
    const result = await run(['--json', ...args], options)
    if (result.code !== 0) throw new Error(`purser ${args.join(' ')}: exit ${result.code}\n${result.stderr}`)
    return JSON.parse(result.stdout) as Record<string, unknown>
  }
  return { purser, run, json }
}
