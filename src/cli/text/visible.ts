/**
 * Everything that moves a cursor, turns text round or shows as nothing: controls (C0, DEL, C1, so every ANSI escape),
 * format characters (bidi, zero width, tags), surrogates, private use and unassigned, separators of lines and
 * paragraphs, and the four letters that are blank.
 */
const unprintable = /[\p{C}\p{Zl}\p{Zp}\u{115f}\u{1160}\u{3164}\u{ffa0}]/gu

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`
  return `\\u{${code.toString(16)}}`
}

/** `text` on one line with every unprintable character spelt out (`\x1b`, `\u{202e}`): safe to write to a terminal. */
export function visible(text: string): string {
  return text.replace(unprintable, escapeCharacter)
}

function escapeInJson(character: string): string {
  let escaped = ''
  for (let index = 0; index < character.length; index++)
    escaped += `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`
  return escaped
}

/**
 * JSON whose strings hold no raw unprintable character: the same value to a parser, harmless to a terminal.
 * `indent` in spaces; 0 is one line.
 */
export function visibleJson(value: unknown, indent = 0): string {
  const text = JSON.stringify(value, null, indent) ?? 'null'
  // The line breaks between members are the only unprintable characters outside strings.
  return text
    .split('\n')
    .map((line) => line.replace(unprintable, escapeInJson))
    .join('\n')
}
