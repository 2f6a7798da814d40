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
  const { run } = await import('./run.ts')
  process.exitCode = await run(process.argv.slice(2))
}
