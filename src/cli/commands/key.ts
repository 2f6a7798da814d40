import { type Command, Option } from 'commander'
import { type Cli, globalOptions } from '../cli.ts'
import type { KeyInput } from '../input/master-key.ts'
import type { CheckOptions } from './key-check.ts'
import type { CredentialOptions } from './key-wrap.ts'

/**
 * `purser key new|check|wrap`: what an operator does with master keys; only `check` asks a daemon, where one runs.
 * What they need (SQLite, the vault, key sources) is loaded when one of them runs: every other command starts without.
 */
export function addKeyCommands(program: Command, cli: Cli): void {
  const key = program.command('key').description('make, check and wrap master keys')
  key
    .command('new')
    .description('make a master key; needs no daemon')
    .option('--out <FILE>', 'put it into a new file (0600) instead of on stdout')
    .action(async ({ out }: { out?: string }, command: Command) => {
      const { newKey } = await import('./key-new.ts')
      await newKey(cli, globalOptions(command), out)
    })
  key
    .command('check')
    .description(
      'tell which master key purserd would use with these flags and this environment, and whether it opens the store; exit code 3 where it does not',
    )
    .option('--data-dir <DIR>', "as purserd's")
    .option('--config <FILE>', "as purserd's")
    .option('--master-key-file <FILE>', "as purserd's")
    .action(async (check: CheckOptions, command: Command) => {
      const { checkKey } = await import('./key-check.ts')
      await checkKey(cli, globalOptions(command), check)
    })
  addWrapCommands(key, cli)
}

const keyFileOption = [
  '--key-file <FILE>',
  'file with the key; without it, the key is read from stdin',
] as const

function addWrapCommands(key: Command, cli: Cli): void {
  const wrap = key
    .command('wrap')
    .description('put a master key where purserd can read it; the key comes from --key-file or stdin')
  wrap
    .command('kms')
    .description('encrypt it by AWS KMS and print what ENCRYPTED_MASTER_KEY is to be')
    .option(...keyFileOption)
    .option('--key-id <ID>', 'id, ARN or alias of the KMS key; default: AWS_KMS_KEY_ID')
    .action(async (input: KeyInput & { keyId?: string }, command: Command) => {
      const { wrapForKms } = await import('./key-wrap.ts')
      await wrapForKms(cli, globalOptions(command), input)
    })
  wrap
    .command('vault')
    .description('store it in HashiCorp Vault or OpenBao, where VAULT_ADDR and its like say')
    .option(...keyFileOption)
    .option('--replace', 'make a new version where there is a key already')
    .action(async (input: KeyInput & { replace?: boolean }, command: Command) => {
      const { wrapForVault } = await import('./key-wrap.ts')
      await wrapForVault(cli, globalOptions(command), input)
    })
  const withKey = new Option('--with-key <KEY>', 'what encrypts it; default: what systemd-creds chooses')
  wrap
    .command('systemd-creds')
    .description('encrypt it for this host, named master-key as LoadCredentialEncrypted= needs it')
    .option(...keyFileOption)
    .option('--out <FILE>', 'put it into a new file (0600) instead of on stdout')
    .addOption(withKey.choices(['auto', 'host', 'tpm2', 'host+tpm2']))
    .action(async (input: CredentialOptions, command: Command) => {
      const { wrapForSystemd } = await import('./key-wrap.ts')
      await wrapForSystemd(cli, globalOptions(command), input)
    })
}
