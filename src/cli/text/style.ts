const codes = { bold: [1, 22], red: [31, 39], green: [32, 39], yellow: [33, 39], dim: [2, 22] } as const

export type Colour = keyof typeof codes
/** Wraps text in a colour, or answers it unchanged where colours are off. */
export type Paint = (colour: Colour, text: string) => string

/** Colours only on a terminal that has them, and never where NO_COLOR is set to anything (no-color.org). */
export function createPaint(isTerminal: boolean, env: Readonly<Record<string, string | undefined>>): Paint {
  const enabled = isTerminal && !env['NO_COLOR'] && env['TERM'] !== 'dumb'
  if (!enabled) return (_colour, text) => text
  return (colour, text) => `\x1b[${codes[colour][0]}m${text}\x1b[${codes[colour][1]}m`
}
