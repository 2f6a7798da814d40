// Writes the README's tables of settings and errors from the code: `npm run readme`. A test fails where they differ.
import { readFileSync, writeFileSync } from 'node:fs'
import { describeSettings } from '../dist/config.js'
import { errorTable } from '../dist/errors.js'

const cell = (text) => String(text).replaceAll('|', '\\|')
const row = (...cells) => `| ${cells.map(cell).join(' | ')} |`

const settings = describeSettings().map(({ key, flag, variable, fallback, meaning }) =>
  row(
    [key === null ? null : `\`${key}\``, flag === null ? null : `\`${flag}\``].filter(Boolean).join(', '),
    `\`${variable}\``,
    fallback,
    meaning,
  ),
)
const errors = Object.entries(errorTable).map(([type, { code, retryable, hint }]) =>
  row(code, type, retryable ? 'yes' : 'no', hint),
)

/** The README with both tables as the code has them. */
export function withTables(readme) {
  return put(put(readme, 'settings', settings), 'errors', errors)
}

function put(readme, name, rows) {
  const [before, rest] = readme.split(`<!-- ${name} -->\n`)
  const [table, after] = rest.split(`<!-- /${name} -->`)
  const head = table.split('\n').slice(0, 2)
  return `${before}<!-- ${name} -->\n${[...head, ...rows].join('\n')}\n<!-- /${name} -->${after}`
}

const path = new URL('../README.md', import.meta.url)
if (process.argv[1] === path.pathname.replace('README.md', 'scripts/readme-tables.mjs')) {
  writeFileSync(path, withTables(readFileSync(path, 'utf8')))
}
