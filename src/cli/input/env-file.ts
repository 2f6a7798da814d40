/** One `NAME=VALUE` of a .env file; `line` counts from 1. */
export type EnvEntry = { readonly name: string; readonly value: string; readonly line: number }

export type EnvFile = {
  readonly entries: readonly EnvEntry[]
  /** Lines that are neither blank, comment nor NAME=VALUE, also those whose quote is never closed. */
  readonly unreadableLines: readonly number[]
}

const assignment = /^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*/
const blankOrComment = /^[ \t]*(#.*)?$/
const inlineComment = /[ \t]#.*$/
const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\', $: '$' }

type Quoted = { readonly value: string; readonly end: number }

/** The value whose opening quote is at `start`; null where it is never closed. Only double quotes know escapes. */
function readQuoted(text: string, start: number): Quoted | null {
  const quote = text[start]
  let value = ''
  for (let index = start + 1; index < text.length; index++) {
    const character = text[index] ?? ''
    if (character === quote) return { value, end: index + 1 }
    const escaped = character === '\\' && quote === '"' ? escapes[text[index + 1] ?? ''] : undefined
    if (escaped !== undefined) index += 1
    value += escaped ?? character
  }
  return null
}

/**
 * Reads what dotenv libraries and shells agree on: `export`, single, double and backtick quotes (also over several
 * lines), comments, CRLF. A `#` inside an unquoted value begins a comment only after white space. Nothing is expanded.
 */
export function parseEnvFile(content: string): EnvFile {
  const text = content.replace(/\r\n?/g, '\n')
  const entries: EnvEntry[] = []
  const unreadableLines: number[] = []
  let position = 0
  let line = 1
  while (position < text.length) {
    const newline = text.indexOf('\n', position)
    const lineEnd = newline < 0 ? text.length : newline
    const current = text.slice(position, lineEnd)
    const match = assignment.exec(current)
    let end = lineEnd
    if (match === null) {
      if (!blankOrComment.test(current)) unreadableLines.push(line)
    } else {
      const valueStart = position + match[0].length
      const read = readValue(text, valueStart, lineEnd)
      if (read === null) unreadableLines.push(line)
      else {
        entries.push({ name: match[1] ?? '', value: read.value, line })
        end = read.end
      }
    }
    line += countNewlines(text, position, end) + 1
    position = end + 1
  }
  return { entries, unreadableLines }
}

/** The value that begins at `start`, and where its last line ends; null where it cannot be read. */
function readValue(text: string, start: number, lineEnd: number): Quoted | null {
  const first = text[start] ?? ''
  if (start >= lineEnd || !'\'"`'.includes(first)) {
    // From the white space or `=` before the value, so that `A= # comment` is empty.
    const value = text
      .slice(start - 1, lineEnd)
      .replace(inlineComment, '')
      .slice(1)
      .trim()
    return { value, end: lineEnd }
  }
  const quoted = readQuoted(text, start)
  if (quoted === null) return null
  const newline = text.indexOf('\n', quoted.end)
  const end = newline < 0 ? text.length : newline
  return blankOrComment.test(text.slice(quoted.end, end)) ? { value: quoted.value, end } : null
}

function countNewlines(text: string, start: number, end: number): number {
  let count = 0
  for (let at = text.indexOf('\n', start); at >= 0 && at < end; at = text.indexOf('\n', at + 1)) count += 1
  return count
}
