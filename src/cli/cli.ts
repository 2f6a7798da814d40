import type { ReadStream } from 'node:tty'
import type { Command } from 'commander'
import type { Output } from './output.ts'
import { visible, visibleJson } from './text/visible.ts'

/** What a command has of the world. Only main.ts makes one. */
export type Cli = {
  /** Made at first use: a child of `purser exec` must find it untouched. */
  readonly stdin: ReadStream
  readonly output: Output
  readonly stderr: NodeJS.WritableStream
  readonly env: Readonly<Record<string, string | undefined>>
  /** The arguments as given, without node and the script. */
  readonly argv: readonly string[]
}

/** Options every command takes, before or after its name. */
export type GlobalOptions = {
  readonly socket?: string
  readonly json?: boolean
  /** Milliseconds for each request; absent: the command's own default. */
  readonly timeout?: number
  readonly tokenFile?: string
}

/** The global options of the program that `command` belongs to. */
export function globalOptions(command: Command): GlobalOptions {
  return command.optsWithGlobals<GlobalOptions>()
}

/** One `purser: ...` line on stderr: news for people, never part of the answer. */
export function note(cli: Cli, text: string): void {
  cli.stderr.write(`purser: ${visible(text)}\n`)
}

/** One `hint: ...` line on stderr. */
export function hint(cli: Cli, text: string): void {
  cli.stderr.write(`hint: ${visible(text)}\n`)
}

/** The answer: under --json as it came, on one line; else what `forPeople` makes of it. */
export async function print<Answer>(
  cli: Cli,
  options: GlobalOptions,
  answer: Answer,
  forPeople: (answer: Answer) => string,
): Promise<void> {
  await cli.output.write(options.json === true ? `${visibleJson(answer)}\n` : forPeople(answer))
}
