import pino from 'pino'

export type Logger = pino.Logger
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

/** Second net only: log calls name chosen fields and never spread params. */
const secretPaths = ['apiSecret', 'passphrase', 'privateKey', 'masterKey', 'newMasterKey', 'token']

/** Lines that could not be written are kept up to this many bytes; what is beyond is dropped. */
const unwrittenBytesMax = 65_536

/**
 * The daemon's logger: JSON lines on stdout, written synchronously so that the last line before an exit is there. A log
 * that cannot be written (its disk is full) loses lines; it must not end the process that could still freeze a bot.
 */
export function createLogger(level: LogLevel, destination: number | string = 1): Logger {
  const out = pino.destination({ dest: destination, sync: true, maxLength: unwrittenBytesMax })
  out.on('error', () => undefined)
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: [...secretPaths, ...secretPaths.map((path) => `*.${path}`)], censor: '[secret]' },
    },
    out,
  )
}
