import { usageError } from '../cli-error.ts'

/** Names under which people try to hand over a secret; `--x-env NAME`, `--x-file PATH` and `--x-stdin` hold none. */
const secretOption =
  /^--?(?!.*-(env|file|stdin)$)(.*secret.*|.*pass-?(phrase|word)?|.*private-?key|.*master-?key|pk|token|key)$/i
/** Options whose value may look like a private key: ids of trades and orders are hashes, 32 bytes as hex behind 0x. */
const hashOption = /^--(trade|idempotency-key)$/
const hash = /^0x[0-9a-f]{64}$/i
const privateKey = /^(0x)?[0-9a-f]{64}$/i
const apiSecret = /^[A-Za-z0-9+/_-]{43}=$/
const clientToken = /^prs_[A-Za-z0-9_-]{43}$/

const exposed =
  'arguments show in ps and in the shell history: take what stood there as known to others; ' +
  'leave the option out to be asked, or use --stdin or an option that ends in -env'

function looksSecret(text: string): boolean {
  return privateKey.test(text) || apiSecret.test(text) || clientToken.test(text)
}

/**
 * Refuses arguments that are a secret or the option of one, before anything parses, echoes or sends them. What follows
 * `--` belongs to another command and is left alone. Throws CliError `usage`, which never repeats the argument.
 */
export function refuseSecretArguments(argv: readonly string[]): void {
  for (const [index, argument] of argv.entries()) {
    if (argument === '--') return
    const equals = argument.indexOf('=')
    const isOption = argument.startsWith('-') && argument.length > 1
    const name = isOption && equals > 0 ? argument.slice(0, equals) : argument
    if (isOption && secretOption.test(name))
      throw usageError(`${name}: a secret is never taken from the command line`, exposed)
    const value = isOption && equals > 0 ? argument.slice(equals + 1) : argument
    const option = value === argument ? (argv[index - 1] ?? '') : name
    if (hashOption.test(option) && hash.test(value)) continue
    // Both: a secret in base64url may itself begin with a dash.
    if (looksSecret(argument) || looksSecret(argument.slice(equals + 1)))
      throw usageError('one argument looks like a secret', exposed)
  }
}

/** Secret members of the wire protocol; `token: true` of clients.add is a flag and holds none. */
const secretMembers = ['apiSecret', 'passphrase', 'privateKey', 'masterKey', 'newMasterKey', 'token']

/** Refuses params that stood on the command line and hold a secret member. Throws CliError `usage`. */
export function refuseSecretParams(params: Readonly<Record<string, unknown>>): void {
  for (const name of secretMembers)
    if (typeof params[name] === 'string')
      throw usageError(
        `${name}: a secret is never taken from the command line`,
        'arguments show in ps and in the shell history; write - in place of the JSON and send it on stdin',
      )
}
