import { CommanderError } from 'commander'
import { describe, expect, test } from 'vitest'
import { CliError } from '../../src/cli/cli-error.ts'
import { exitCode, exitCodeHelp } from '../../src/cli/exit-codes.ts'
import { exitCodeOf, formatReport, reportOf } from '../../src/cli/report.ts'
import {
  CallTimeoutError,
  ConnectError,
  ConnectionLostError,
  ProtocolError,
  PurserError,
} from '../../src/client/index.ts'
import { errorTable } from '../../src/errors.ts'

describe('exit codes', () => {
  test('every one is documented, and none that is not there', () => {
    const documented = [...exitCodeHelp.matchAll(/(?:^ *|; )(\d+)(?: {2}|:)/gm)].map((match) =>
      Number(match[1]),
    )
    expect(documented.sort()).toEqual(Object.values(exitCode).map(Number).sort())
  })

  test.each([
    ['NotFound', 2],
    ['Forbidden', 77],
    ['InvalidParams', 64],
    ['MethodNotFound', 64],
    ['InternalError', 70],
    ['SpendLimitExceeded', 4],
    ['Conflict', 1],
    ['CredentialRevoked', 1],
  ] as const)('%s is %i', (type, code) => {
    expect(exitCodeOf(type, errorTable[type].retryable)).toBe(code)
  })

  test('whatever may pass later is 75, also a type this version does not know', () => {
    for (const [type, { retryable }] of Object.entries(errorTable))
      if (retryable) expect(exitCodeOf(type, true)).toBe(75)
    expect(exitCodeOf('Tired', true)).toBe(75)
    expect(exitCodeOf('Tired', false)).toBe(1)
    expect(exitCodeOf('constructor', false)).toBe(1)
  })
})

describe('reportOf', () => {
  test('the daemon refused', () => {
    const error = new PurserError('Conflict', 2002, 'conflicts with what is stored', {
      resource: 'apiKey',
      field: null,
      hint: 'see data.resource',
    })
    const report = reportOf(error)
    expect(report).toMatchObject({
      exitCode: 1,
      message: 'conflicts with what is stored (resource: apiKey)',
      hint: 'see data.resource',
    })
    expect(formatReport(report!, false)).toBe(
      'purser: conflicts with what is stored (resource: apiKey)\nhint: see data.resource\n',
    )
    const lines = formatReport(report!, true).trimEnd().split('\n')
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({
      error: { code: 2002, data: { resource: 'apiKey', field: null } },
    })
  })

  test.each([
    [
      'per_trade',
      { usedUsd: '0.00', availableUsd: '100.00', resetsAt: null },
      'over the limit per trade: 120.50 USD asked for, 100.00 USD allowed',
      'ask for 100.00 USD or less at once, or raise the limit with purser limits set',
    ],
    [
      'credential_daily',
      { usedUsd: '80.00', availableUsd: '20.00', resetsAt: '2026-11-24T00:00:00.000Z' },
      'over the daily limit of the credential: 120.50 USD asked for, 20.00 USD left (80.00 of 100.00 USD used)',
      'it resets at 2026-11-24T00:00:00Z',
    ],
    [
      'user_daily',
      { usedUsd: '180.00', availableUsd: '0.00', resetsAt: '2026-11-24T00:00:00.000Z' },
      'over the daily limit of the user: 120.50 USD asked for, 0.00 USD left (180.00 of 100.00 USD used)',
      'it resets at 2026-11-24T00:00:00Z',
    ],
    [
      'exposure',
      { usedUsd: '80.00', availableUsd: '20.00', resetsAt: null },
      'over the exposure limit of the user: 120.50 USD asked for, 20.00 USD left (80.00 of 100.00 USD used)',
      'it frees itself as positions are closed and reservations voided or expire, not by the day',
    ],
    [
      'constructor',
      { usedUsd: '80.00', availableUsd: '20.00', resetsAt: null },
      'over the limit (level: constructor, limitUsd: 100.00, requestedUsd: 120.50, usedUsd: 80.00, availableUsd: 20.00)',
      'see data.level',
    ],
  ])('over a limit, it is a sentence that says which and what is left: %s', (level, more, message, hint) => {
    const data = { level, limitUsd: '100.00', requestedUsd: '120.50', ...more, hint: 'see data.level' }
    expect(
      reportOf(new PurserError('SpendLimitExceeded', 3001, 'over the limit', data as never)),
    ).toMatchObject({
      exitCode: 4,
      message,
      hint,
      answer: { code: 3001, message: 'over the limit', data: { level, requestedUsd: '120.50' } },
    })
  })

  test('wrong params are listed', () => {
    const error = new PurserError('InvalidParams', -32602, 'invalid params', {
      issues: [{ path: 'limits.dailyUsd', message: 'not a decimal amount' }],
      hint: 'see data.issues',
    })
    expect(formatReport(reportOf(error)!, false)).toBe(
      'purser: invalid params\n  limits.dailyUsd: not a decimal amount\n',
    )
  })

  test('how long to wait is said', () => {
    const error = new PurserError('RateLimited', 1002, 'too many decryptions', {
      retryable: true,
      retryAfterMs: 12_001,
      limit: 100,
      windowMs: 60_000,
      hint: 'keep what you retrieved',
    })
    expect(reportOf(error)).toMatchObject({
      exitCode: 75,
      hint: 'try again in 13 s; keep what you retrieved',
    })
  })

  test('text of the daemon cannot draw on the terminal', () => {
    const error = new PurserError('Frozen', 1005, 'frozen', {
      reason: '\x1b[2J\u202e',
      since: 'now',
      hint: '\x07',
    })
    expect(formatReport(reportOf(error)!, true)).toMatch(/^[\x20-\x7e\n]*$/)
  })

  test.each([
    ['no daemon', new ConnectError('ENOENT', '/s', 'no socket at /s', 'start it'), 69],
    ['a lost connection', new ConnectionLostError('users.put'), 69],
    ['something else listens', new ProtocolError('no JSON'), 69],
    ['no answer in time', new CallTimeoutError('users.put', 1000, true), 75],
    ['its own errors', new CliError('noInput', 'x'), 66],
    ['anything else', new TypeError('secret hunter2'), 70],
    ['the system', Object.assign(new Error('hunter2'), { code: 'EIO' }), 70],
    ['usage', new CommanderError(1, 'commander.unknownOption', "error: unknown option '--x=hunter2'"), 64],
    ['a group without a command', new CommanderError(1, 'commander.help', '(outputHelp)'), 64],
  ])('%s', (_name, error, code) => {
    const report = reportOf(error)
    expect(report?.exitCode).toBe(code)
    expect(formatReport(report!, true)).not.toContain('hunter2')
    expect(report?.message).not.toMatch(/^error|outputHelp/)
  })

  test('asked for help: nothing went wrong', () => {
    expect(reportOf(new CommanderError(0, 'commander.helpDisplayed', '(outputHelp)'))).toBeNull()
  })
})
