import { describe, expect, test } from 'vitest'
import { LineEditor } from '../../../src/cli/input/line-editor.ts'

/** Feeds bytes until one of them ends the line; answers the state and the line. */
function type(input: string | Buffer, maxBytes = 100): { state: string; text: string } {
  const editor = new LineEditor(maxBytes)
  let state = 'editing'
  for (const value of Buffer.from(input)) {
    state = editor.feed(value)
    if (state !== 'editing') break
  }
  return { state, text: editor.text() }
}

describe('LineEditor', () => {
  test.each([
    ['Enter submits', 'abc\r', 'submit', 'abc'],
    ['a pasted line break submits', 'abc\nrest', 'submit', 'abc'],
    ['white space around is dropped', '  abc \t\r', 'submit', 'abc'],
    ['backspace', 'abx\x7fc\r', 'submit', 'abc'],
    ['the other backspace', 'abx\x08c\r', 'submit', 'abc'],
    ['backspace takes a whole character', 'aé東\x7f\x7fb\r', 'submit', 'ab'],
    ['backspace on nothing', '\x7f\x7fa\r', 'submit', 'a'],
    ['Ctrl-U takes the line', 'abc\x15d\r', 'submit', 'd'],
    ['Ctrl-W takes the line', 'abc def\x17d\r', 'submit', 'd'],
    ['cursor keys are swallowed', 'a\x1b[Db\x1b[1;5Cc\x1bOPd\r', 'submit', 'abcd'],
    ['the marks of a bracketed paste are swallowed', '\x1b[200~abc\x1b[201~\r', 'submit', 'abc'],
    ['other controls are swallowed', 'a\x01\x1a\x00b\r', 'submit', 'ab'],
    ['Ctrl-C cancels', 'abc\x03', 'cancel', 'abc'],
    ['Ctrl-\\ cancels', 'abc\x1c', 'cancel', 'abc'],
    ['Ctrl-C cancels inside an escape sequence', 'a\x1b[\x03', 'cancel', 'a'],
    ['Ctrl-D on nothing cancels', '\x04', 'cancel', ''],
    ['Ctrl-D after something submits', 'ab\x04', 'submit', 'ab'],
    ['nothing yet', 'ab', 'editing', 'ab'],
  ])('%s', (_name, input, state, text) => {
    expect(type(input)).toEqual({ state, text })
  })

  test('one byte more than it holds is too long', () => {
    expect(type('x'.repeat(4), 4)).toEqual({ state: 'editing', text: 'xxxx' })
    expect(type('x'.repeat(5), 4).state).toBe('too-long')
  })

  test('counts characters', () => {
    const editor = new LineEditor(20)
    for (const value of Buffer.from('aé東')) editor.feed(value)
    expect(editor.characters).toBe(3)
  })

  test('wipe leaves nothing', () => {
    const editor = new LineEditor(20)
    for (const value of Buffer.from('abc')) editor.feed(value)
    editor.wipe()
    expect(editor.text()).toBe('')
    for (const value of Buffer.from('\x7f\x7f')) editor.feed(value)
    expect(editor.characters).toBe(0)
  })
})
