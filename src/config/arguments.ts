import { parseArgs } from 'node:util'
import { StartError } from '../errors.ts'

/** The flags of `purserd` that carry a value into the configuration; `sealed` carries `true`. */
export type FlagName =
  | 'data-dir'
  | 'socket'
  | 'admin-socket'
  | 'config'
  | 'master-key-file'
  | 'sealed'
  | 'log-level'

/** Flags as they were given, not yet checked for sense. A flag given twice counts as it was given last. */
export type Flags = Readonly<Partial<Record<FlagName, string>>>

/** What the command line asks for. Help and version are printed by main, which then exits 0. */
export type Arguments =
  | { readonly kind: 'run'; readonly flags: Flags }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' }

const usage =
  'purserd [--data-dir DIR] [--socket PATH] [--admin-socket PATH] [--config FILE] [--master-key-file FILE] [--sealed] [--log-level L]'

const helpText = `usage: ${usage}

  --data-dir DIR          where the store lies (PURSER_DATA_DIR)
  --socket PATH           the socket bots connect to (PURSER_SOCKET)
  --admin-socket PATH     a second socket, for admins only (PURSER_ADMIN_SOCKET)
  --config FILE           settings in TOML; default DIR/purser.toml, which may be absent (PURSER_CONFIG)
  --master-key-file FILE  a file with the master key: 32 bytes as base64, base64url or hex (PURSER_MASTER_KEY_FILE)
  --sealed                read no master key, wait for \`purser unseal\` (PURSER_SEALED)
  --log-level L           trace, debug, info, warn, error, fatal or silent (PURSER_LOG_LEVEL)
  -h, --help              this text
  --version               the version

A flag beats its variable, a variable beats the file, the file beats the default. A key a.b_c of the file is
PURSER_A_B_C in the environment. The README lists every key.
`

const valueFlags = ['data-dir', 'socket', 'admin-socket', 'config', 'master-key-file', 'log-level'] as const

const options = {
  ...Object.fromEntries(valueFlags.map((name) => [name, { type: 'string' as const }])),
  sealed: { type: 'boolean' as const },
  help: { type: 'boolean' as const, short: 'h' },
  version: { type: 'boolean' as const },
}

function isValueFlag(name: string): name is (typeof valueFlags)[number] {
  return (valueFlags as readonly string[]).includes(name)
}

function usageError(message: string): StartError {
  return new StartError('usage', message, `usage: ${usage}`)
}

/**
 * Reads the arguments after `purserd`. Throws StartError (exit 64) for an unknown flag, a missing value or anything
 * that is no flag. No value is ever echoed: what stands where a flag belongs may be a key pasted there.
 */
export function readArguments(argv: readonly string[]): Arguments {
  // Not `strict`: its messages repeat the argument they refuse. The tokens are checked here instead.
  const { tokens } = parseArgs({ args: [...argv], options, strict: false, tokens: true })
  const flags: Partial<Record<FlagName, string>> = {}
  for (const token of tokens) {
    if (token.kind === 'option-terminator') continue
    if (token.kind === 'positional') throw usageError('purserd takes flags only, not other arguments')
    const { name, value, inlineValue } = token
    if (isValueFlag(name)) {
      // Without `=` what begins with a dash is the next flag, and the value was forgotten.
      if (value === undefined || (!inlineValue && value.startsWith('-'))) {
        throw usageError(`--${name} needs a value`)
      }
      flags[name] = value
      continue
    }
    if (name !== 'sealed' && name !== 'help' && name !== 'version') {
      const printable = /^[a-z][a-z0-9-]{0,39}$/i.test(name)
      throw usageError(printable ? `unknown flag ${token.rawName.slice(0, 42)}` : 'unknown flag')
    }
    if (value !== undefined) throw usageError(`--${name} takes no value`)
    if (name === 'help') return { kind: 'help', text: helpText }
    if (name === 'version') return { kind: 'version' }
    flags.sealed = 'true'
  }
  return { kind: 'run', flags }
}
