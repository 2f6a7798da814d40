import type { Command } from 'commander'
import { type Cli, globalOptions, note, print } from '../cli.ts'
import { usageError } from '../cli-error.ts'
import { parseDurationMs, parseInteger } from '../input/arguments.ts'
import { withClient } from '../session.ts'
import { flatten, formatPairs } from '../text/values.ts'

const describe = (answer: unknown): string => formatPairs(flatten(answer))

/** `purser spend check|reserve|capture|void|record`. */
export function addSpendActs(spend: Command, cli: Cli): void {
  addCheck(spend, cli)
  addReserve(spend, cli)
  addCapture(spend, cli)
  addVoid(spend, cli)
  addRecord(spend, cli)
}

/** A credential named by an option; without it the primary is meant. Throws CliError `usage`. */
export function parseCredentialOption(argument: string): number {
  return parseInteger(argument, '--credential', 1, Number.MAX_SAFE_INTEGER)
}

function addCheck(spend: Command, cli: Cli): void {
  spend
    .command('check')
    .argument('<USD>', 'an amount, like 25 or 25.50')
    .description('ask whether an amount would be granted now; exit code 4 where not')
    .requiredOption('--user <USER>', 'whose limits')
    .option('--credential <ID>', 'the credential that would spend it; the primary', parseCredentialOption)
    .action(async (amountUsd: string, given: { user: string; credential?: number }, command: Command) => {
      const options = globalOptions(command)
      const params = { userId: given.user, credentialId: given.credential, amountUsd }
      const answer = await withClient(options, (client) => client.call('spend.check', params))
      await print(cli, options, answer, describe)
    })
}

/** Whole seconds of `60`, `60s`, `5m`. Throws CliError `usage`. */
export function parseTtlSeconds(argument: string): number {
  const ttlSeconds = parseDurationMs(argument, '--ttl') / 1000
  if (!Number.isInteger(ttlSeconds)) throw usageError('--ttl takes whole seconds, like 30s or 5m')
  return ttlSeconds
}

type ReserveOptions = {
  readonly user: string
  readonly credential?: number
  readonly ttl?: number
  readonly idempotencyKey?: string
}

function addReserve(spend: Command, cli: Cli): void {
  spend
    .command('reserve')
    .argument('<USD>', 'an amount, like 25 or 25.50')
    .description('hold an amount on every limit; exit code 4 where one does not allow it')
    .requiredOption('--user <USER>', 'whose limits')
    .option('--credential <ID>', 'the credential that will spend it; the primary', parseCredentialOption)
    .option('--ttl <TIME>', 'how long, from 1s to 24h (60s)', parseTtlSeconds)
    .option('--idempotency-key <KEY>', 'makes a repetition the same act, for ever')
    .action(async (amountUsd: string, given: ReserveOptions, command: Command) => {
      const options = globalOptions(command)
      const params = {
        userId: given.user,
        credentialId: given.credential,
        amountUsd,
        ttlSeconds: given.ttl,
        idempotencyKey: given.idempotencyKey,
      }
      const answer = await withClient(options, (client) => client.call('spend.reserve', params))
      await print(cli, options, answer, describe)
    })
}

function addCapture(spend: Command, cli: Cli): void {
  spend
    .command('capture')
    .argument('<RESERVATION>', 'its id')
    .argument('[USD]', 'what was really spent; all that is held')
    .description('turn a hold into a position; the rest of it is released')
    .option('--trade <ID>', 'the id of the trade: it is counted once, for ever')
    .option('--keep', 'keep the rest held for the next fill')
    .action(
      async (
        reservationId: string,
        amountUsd: string | undefined,
        { trade, keep }: { trade?: string; keep?: boolean },
        command: Command,
      ) => {
        const options = globalOptions(command)
        const params = { reservationId, amountUsd, tradeId: trade, final: keep === true ? false : undefined }
        const answer = await withClient(options, (client) => client.call('spend.capture', params))
        await print(cli, options, answer, describe)
      },
    )
}

function addVoid(spend: Command, cli: Cli): void {
  spend
    .command('void')
    .argument('<RESERVATION>', 'its id')
    .description('give back what is held')
    .option('--reason <TEXT>', 'for the audit log')
    .action(async (reservationId: string, { reason }: { reason?: string }, command: Command) => {
      const options = globalOptions(command)
      const answer = await withClient(options, (client) =>
        client.call('spend.void', { reservationId, reason }),
      )
      await print(cli, options, answer, describe)
    })
}

type RecordOptions = {
  readonly user: string
  readonly credential?: number
  readonly trade?: string
  readonly idempotencyKey?: string
}

function addRecord(spend: Command, cli: Cli): void {
  spend
    .command('record')
    .argument('<USD>', 'what it cost, like 25 or 25.50')
    .description('count a buy that has already happened, whatever the limits say')
    .requiredOption('--user <USER>', 'who bought')
    .option('--credential <ID>', 'the credential that spent it; the primary', parseCredentialOption)
    .option('--trade <ID>', 'the id of the trade: it is counted once, for ever')
    .option('--idempotency-key <KEY>', 'makes a repetition the same act, for ever')
    .action(async (amountUsd: string, given: RecordOptions, command: Command) => {
      const options = globalOptions(command)
      const params = {
        userId: given.user,
        credentialId: given.credential,
        amountUsd,
        tradeId: given.trade,
        idempotencyKey: given.idempotencyKey,
      }
      const answer = await withClient(options, (client) => client.call('spend.record', params))
      await print(cli, options, answer, describe)
      if (answer.overLimit) note(cli, 'this passes a limit: nothing is granted there until it is below again')
    })
}
