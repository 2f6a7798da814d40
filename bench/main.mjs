// npm run bench [-- --json] [-- --only NAME,...] [-- --seconds N]: purser against floors taken in the same run, as ratios.
// Absolute numbers are the machine's; the ratios are purser's.
import { parseArgs } from 'node:util'
import { sections } from './sections.mjs'

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string' },
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
  },
})
const chosen = values.only === undefined ? Object.keys(sections) : values.only.split(',')
const unknown = chosen.filter((name) => sections[name] === undefined)
if (unknown.length > 0) {
  console.error(`bench: no section ${unknown.join(', ')}; there are ${Object.keys(sections).join(', ')}`)
  process.exit(64)
}

const rows = []
for (const name of chosen) {
  if (!values.json) console.error(`... ${name}`)
  rows.push(...(await sections[name]({ seconds: Number(values.seconds), rounds: Number(values.rounds) })))
}
if (values.json) console.log(JSON.stringify({ node: process.version, rows }, null, 2))
else console.table(Object.fromEntries(rows.map(({ what, ...figures }) => [what, figures])))
