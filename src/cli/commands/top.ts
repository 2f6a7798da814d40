import type { Command } from 'commander'
import { type Cli, globalOptions } from '../cli.ts'
import { parseDurationMs } from '../input/arguments.ts'
import { runTop } from '../top/run.ts'

/** A look asks some hundred questions; more than five a second would only be load. */
const leastIntervalMs = 200

/** `purser top`. */
export function addTopCommand(program: Command, cli: Cli): void {
  program
    .command('top')
    .description('watch users, limits, holds, requests and the audit log live; q or Ctrl-C ends it')
    .option(
      '--interval <TIME>',
      'how often to look (1s)',
      (text) => Math.max(leastIntervalMs, parseDurationMs(text, '--interval')),
      1000,
    )
    .option('--once', 'print one frame and end; needs no terminal')
    .addHelpText(
      'after',
      '\nIt shows all users and so is for admins. Its own requests are left out of the rates. Under --json every look\n' +
        'is a line.',
    )
    .action(async ({ interval, once }: { interval: number; once?: boolean }, command: Command) => {
      await runTop(cli, globalOptions(command), { intervalMs: interval, once: once === true })
    })
}
