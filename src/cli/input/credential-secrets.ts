import type { Cli } from '../cli.ts'
import { CliError, usageError } from '../cli-error.ts'
import { type SecretField, type Secrets, secretFields, takeSecrets } from './bot-names.ts'
import { decodeText, readBounded } from './bounded.ts'
import { parseEnvFile } from './env-file.ts'
import { Prompter } from './prompt.ts'

/** One wire line is at most 64 KiB, so no more than that can be sent on. */
export const maxStdinBytes = 65_536

/** Where the secrets of `credentials add` and `replace` come from; each option names a source, none holds a value. */
export type SecretSources = {
  readonly stdin?: boolean
  /** The API key names a key without being secret: the exchange puts it into every order. */
  readonly apiKey?: string
  readonly apiKeyEnv?: string
  readonly apiSecretEnv?: string
  readonly passphraseEnv?: string
  readonly privateKeyEnv?: string
}

const questions: Readonly<Record<SecretField, string>> = {
  apiKey: 'API key:',
  apiSecret: 'API secret (not shown):',
  passphrase: 'API passphrase (not shown; empty for none):',
  privateKey: 'Private key (not shown; empty for none):',
}
const required: readonly SecretField[] = ['apiKey', 'apiSecret']

/**
 * The secrets from stdin, from named environment variables, or asked for on the terminal where no source is named.
 * Throws CliError where one that must be there is not.
 */
export async function readCredentialSecrets(cli: Cli, sources: SecretSources): Promise<Secrets> {
  const fromEnv = readFromEnv(cli.env, sources)
  const given: Secrets = sources.apiKey === undefined ? fromEnv : { apiKey: sources.apiKey, ...fromEnv }
  const usesEnv = Object.keys(fromEnv).length > 0
  if (sources.stdin === true && (usesEnv || sources.apiKey !== undefined))
    throw usageError('--stdin brings all secrets; leave the other sources out')
  const secrets = sources.stdin === true ? await readFromStdin(cli) : usesEnv ? given : await ask(cli, given)
  for (const field of required)
    if (!secrets[field])
      throw new CliError('badInput', `${field} is missing`, 'purser needs apiKey and apiSecret')
  return secrets
}

function readFromEnv(env: Cli['env'], sources: SecretSources): Secrets {
  const names: Readonly<Record<SecretField, string | undefined>> = {
    apiKey: sources.apiKeyEnv,
    apiSecret: sources.apiSecretEnv,
    passphrase: sources.passphraseEnv,
    privateKey: sources.privateKeyEnv,
  }
  const secrets: Secrets = {}
  for (const field of secretFields) {
    const name = names[field]
    if (name !== undefined) secrets[field] = readVariable(env, name)
  }
  return secrets
}

/** The environment variable `name`. Throws CliError where the name is none, or the variable unset or empty. */
export function readVariable(env: Cli['env'], name: string): string {
  // The name is echoed only where it can be one: somebody may have put the secret itself there.
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || name.length > 64)
    throw usageError('an option that ends in -env takes the NAME of a variable, not its value')
  const value = env[name]?.trim()
  if (!value) throw new CliError('badInput', `the environment variable ${name} is not set or empty`)
  return value
}

async function readFromStdin(cli: Cli): Promise<Secrets> {
  const bytes = await readStdin(cli)
  try {
    return parseSecrets(decodeText(bytes, 'stdin'))
  } finally {
    bytes.fill(0)
  }
}

/** All of stdin, which must not be a terminal: that would show what is typed. Throws CliError. */
export async function readStdin(cli: Cli): Promise<Buffer> {
  if (cli.stdin.isTTY)
    throw usageError(
      'stdin is a terminal, which would show the secret',
      'send a pipe or a file, or leave --stdin out',
    )
  return readBounded(cli.stdin, maxStdinBytes, 'stdin')
}

/** A JSON object with the wire's names, or NAME=VALUE lines. Throws CliError `badInput`, without any value. */
export function parseSecrets(text: string): Secrets {
  if (!text.trimStart().startsWith('{')) {
    const { entries, unreadableLines } = parseEnvFile(text)
    const { secrets, ignored } = takeSecrets(entries)
    if (unreadableLines.length > 0)
      throw new CliError('badInput', `stdin, line ${unreadableLines[0]}: not NAME=VALUE`)
    if (ignored.length > 0)
      throw new CliError(
        'badInput',
        `stdin: ${ignored[0]} is no name of a secret`,
        `known: ${secretFields.join(', ')}`,
      )
    return secrets
  }
  const object = parseJsonObject(text, 'stdin')
  const secrets: Secrets = {}
  for (const [name, value] of Object.entries(object)) {
    const field = secretFields.find((one) => one === name)
    if (field === undefined)
      throw new CliError('badInput', `stdin: an unknown member`, `known: ${secretFields.join(', ')}`)
    if (value === null || value === '') continue
    if (typeof value !== 'string') throw new CliError('badInput', `stdin: ${field} is not a string`)
    secrets[field] = value
  }
  return secrets
}

/** A JSON object out of `text`. Throws CliError `exit` without a piece of the text, which may hold secrets. */
export function parseJsonObject(
  text: string,
  name: string,
  exit: 'badInput' | 'usage' = 'badInput',
): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new CliError(exit, `${name}: not valid JSON`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new CliError(exit, `${name}: not a JSON object`)
  return value as Record<string, unknown>
}

async function ask(cli: Cli, given: Secrets): Promise<Secrets> {
  const secrets: Secrets = { ...given }
  const prompter = openPrompter(cli)
  try {
    for (const field of secretFields) {
      if (secrets[field] !== undefined) continue
      const answer = await prompter.ask({ text: questions[field], echo: field === 'apiKey' })
      if (answer !== '') secrets[field] = answer
      else if (required.includes(field))
        throw new CliError('badInput', `${field} is missing; nothing was done`)
    }
    return secrets
  } finally {
    prompter.close()
  }
}

/** A Prompter on the terminal. Throws CliError `usage` where stdin is none. */
export function openPrompter(cli: Cli): Prompter {
  if (!cli.stdin.isTTY)
    throw usageError(
      'stdin is not a terminal, so nothing can be asked',
      'use --stdin, options that end in -env, or --yes where the question is y/N',
    )
  return new Prompter(cli.stdin, cli.stderr)
}

/** Asks y/N. Throws CliError `interrupted` for anything but yes. */
export async function confirm(cli: Cli, text: string): Promise<void> {
  const prompter = openPrompter(cli)
  try {
    const answer = await prompter.ask({ text: `${text} [y/N]`, echo: true })
    if (!/^y(es)?$/i.test(answer)) throw new CliError('interrupted', 'not confirmed; nothing was done')
  } finally {
    prompter.close()
  }
}
