import { Output } from './output.ts'
import { run } from './program.ts'

// A reader of stderr that has gone is no reason to fail.
process.stderr.on('error', () => undefined)

const exitCode = await run({
  get stdin() {
    return process.stdin
  },
  output: new Output(process.stdout, process.env),
  stderr: process.stderr,
  env: process.env,
  argv: process.argv.slice(2),
})
if (exitCode !== null) process.exitCode = exitCode
