import pino from 'pino'

export type Logger = pino.Logger
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

/** Second net only: log calls name chosen fields and never spread params. */
const secretPaths = ['apiSecret', 'passphrase', 'privateKey', 'masterKey', 'newMasterKey', 'token']

/** The daemon's logger: JSON lines on stdout, written synchronously so that the last line before an exit is there. */
export function createLogger(level: LogLevel, destination: number | string = 1): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: [...secretPaths, ...secretPaths.map((path) => `*.${path}`)], censor: '[secret]' },
    },
    pino.destination({ dest: destination, sync: true }),
  )
}
