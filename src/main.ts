import { exitCodes } from './errors.ts'

/** better-sqlite3 dies with SIGSEGV on Node 20, so nothing that needs it is imported before this is known. */
const nodeMajorMin = 24

const major = Number(process.versions.node.split('.')[0])
if (major < nodeMajorMin) {
  process.stderr.write(
    `purserd: this is Node ${process.versions.node}, it needs ${nodeMajorMin}; start it by bin/purserd, which has its own\n`,
  )
  process.exitCode = exitCodes.unforeseen
} else {
  try {
    const { run } = await import('./run.ts')
    process.exitCode = await run(process.argv.slice(2))
  } catch (error) {
    // Only loading can fail here: a package or its prebuilt library is missing or is one for another machine.
    const reason = String(error instanceof Error ? error.message : error).split('\n', 1)[0]
    process.stderr.write(`purserd: cannot be loaded: ${reason}; install it anew with \`npm ci\`\n`)
    process.exitCode = exitCodes.unforeseen
  }
}
